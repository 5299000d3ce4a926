"""A fitted classifier over the rows of a cluster: Dask, Ray Data, Spark, and joblib's backends.

Each helper sends the classifier to the workers as it is, and brings back the rows with the same
columns behind them. No engine is imported before it is used.
"""

from skllm_calib.distributed.engines import predict_dask, predict_joblib, predict_ray
from skllm_calib.distributed.frames import predict_frame
from skllm_calib.distributed.spark import predict_spark, proba_udf

__all__ = [
    "predict_dask",
    "predict_frame",
    "predict_joblib",
    "predict_ray",
    "predict_spark",
    "proba_udf",
]
