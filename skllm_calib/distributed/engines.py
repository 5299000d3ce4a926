"""Dask, Ray Data and the backends of joblib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from joblib import Parallel, delayed

from skllm_calib.distributed.frames import predict_frame

__all__ = ["predict_dask", "predict_joblib", "predict_ray"]


def predict_dask(frame: Any, classifier: Any, *, column: str | Sequence[str] = "text") -> Any:
    """Classify the rows of a Dask DataFrame, a partition at a time.

    Parameters
    ----------
    frame : dask.dataframe.DataFrame
    classifier : estimator
        A fitted classifier.
    column : str or list of str, default="text"
        The column of the texts, or the columns of a table.

    Returns
    -------
    dask.dataframe.DataFrame
        The rows with the columns of :func:`predict_frame`; nothing is asked before it is computed.
    """
    meta = predict_frame(frame._meta, classifier, column=column)
    return frame.map_partitions(predict_frame, classifier, column=column, meta=meta)


def predict_ray(
    dataset: Any,
    classifier: Any,
    *,
    column: str | Sequence[str] = "text",
    n_workers: int = 2,
    batch_size: int = 1_000,
) -> Any:
    """Classify the rows of a Ray Dataset with actors, each of which keeps its client.

    Parameters
    ----------
    dataset : ray.data.Dataset
    classifier : estimator
        A fitted classifier.
    column : str or list of str, default="text"
        The column of the texts, or the columns of a table.
    n_workers : int, default=2
        Number of actors.
    batch_size : int, default=1_000
        Rows that an actor asks about at a time; at least the `max_concurrency` of the backend.

    Returns
    -------
    ray.data.Dataset
        The rows with the columns of :func:`predict_frame`; nothing is asked before it is executed.
    """
    import ray.data  # noqa: PLC0415

    return dataset.map_batches(
        _Predictor,
        fn_constructor_args=(classifier, column),
        batch_format="pandas",
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=n_workers),
    )


class _Predictor:
    """What an actor of Ray does with a batch."""

    def __init__(self, classifier: Any, column: str | Sequence[str]) -> None:
        self._classifier = classifier
        self._column = column

    def __call__(self, batch: Any) -> Any:
        return predict_frame(batch, self._classifier, column=self._column)


def predict_joblib(
    frame: Any,
    classifier: Any,
    *,
    column: str | Sequence[str] = "text",
    n_jobs: int | None = None,
    batch_size: int = 1_000,
) -> Any:
    """Classify the rows of a DataFrame with the workers of joblib.

    Which workers these are is said by ``joblib.parallel_config``: processes of this machine
    ("loky"), or those of a cluster ("dask", "ray", "spark", once the engine has registered it).

    Parameters
    ----------
    frame : pandas.DataFrame
    classifier : estimator
        A fitted classifier.
    column : str or list of str, default="text"
        The column of the texts, or the columns of a table.
    n_jobs : int or None, default=None
        Number of workers; None takes that of ``parallel_config``, else 1.
    batch_size : int, default=1_000
        Rows in one task.

    Returns
    -------
    pandas.DataFrame
        The rows with the columns of :func:`predict_frame`.

    Examples
    --------
    >>> import joblib, pandas as pd
    >>> from skllm_calib import LLMClassifier
    >>> from skllm_calib.backends import TestingBackend
    >>> clf = LLMClassifier(TestingBackend(), classes=["ham", "spam"], cache=None)
    >>> rows = pd.DataFrame({"text": [f"message {i}" for i in range(5)]})
    >>> with joblib.parallel_config("threading", n_jobs=2):
    ...     predict_joblib(rows, clf, batch_size=2).shape
    (5, 6)
    """
    import pandas as pd  # noqa: PLC0415

    parts = [frame.iloc[i : i + batch_size] for i in range(0, max(len(frame), 1), batch_size)]
    done = Parallel(n_jobs=n_jobs)(
        delayed(predict_frame)(part, classifier, column=column) for part in parts
    )
    return pd.concat(done)
