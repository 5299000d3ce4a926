"""Spark: the rows of a DataFrame, or one column of texts in a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from skllm_calib.distributed.frames import own_columns, predict_frame

__all__ = ["predict_spark", "proba_udf"]

_SQL = {"string": "string", "float64": "double", "Int64": "bigint", "boolean": "boolean"}


def predict_spark(frame: Any, classifier: Any, *, column: str | Sequence[str] = "text") -> Any:
    """Classify the rows of a Spark DataFrame with ``mapInPandas``.

    Parameters
    ----------
    frame : pyspark.sql.DataFrame
    classifier : estimator
        A fitted classifier.
    column : str or list of str, default="text"
        The column of the texts, or the columns of a table.

    Returns
    -------
    pyspark.sql.DataFrame
        The rows with the columns of :func:`predict_frame`. Nothing is asked before an action, and
        each action asks again where there is no cache: keep the result
        (``.write.parquet(...)``) before you count it.
    """
    from pyspark.sql.types import StructType  # noqa: PLC0415

    def predict(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            yield predict_frame(batch, classifier, column=column)

    schema = StructType(list(frame.schema.fields))
    for name, kind in own_columns(frame.columns, classifier).items():
        schema = schema.add(name, _SQL[kind])
    return frame.mapInPandas(predict, schema)


def proba_udf(classifier: Any) -> Any:
    """Return a function for columns of texts: the probabilities in the order of ``classes_``.

    Parameters
    ----------
    classifier : estimator
        A fitted classifier.

    Returns
    -------
    pandas_udf
        From a string to an array of doubles, null for rows that failed; also for
        ``spark.udf.register("proba", proba_udf(classifier))``.
    """
    from pyspark.sql.functions import pandas_udf  # noqa: PLC0415

    def proba(batches: Iterator[Any]) -> Iterator[Any]:
        import pandas as pd  # noqa: PLC0415

        names = [f"proba_{label}" for label in np.asarray(classifier.classes_).tolist()]
        for texts in batches:
            rows = predict_frame(pd.DataFrame({"": texts}), classifier, column="")[names]
            failed = rows.isna().any(axis=1)
            values = [
                None if bad else row
                for bad, row in zip(failed, rows.to_numpy().tolist(), strict=True)
            ]
            yield pd.Series(values, dtype=object)

    # Said outright, since annotations of ours are text and pyspark reads the objects.
    proba.__annotations__ = _annotations()
    return pandas_udf(proba, "array<double>")


def _annotations() -> dict[str, Any]:
    import pandas as pd  # noqa: PLC0415

    return {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}
