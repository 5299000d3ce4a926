"""Real engines, with workers that are killed in the middle: each question is asked once."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import textwrap
from pathlib import Path

import joblib
import numpy as np
import pytest
from ledger import LedgerBackend, asked, askers

from skllm_calib import LLMClassifier
from skllm_calib.distributed import (
    predict_dask,
    predict_joblib,
    predict_ray,
    predict_spark,
    proba_udf,
)

pd = pytest.importorskip("pandas")
PAGE = Path(__file__).parents[2] / "docs/scale.rst"
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not PAGE.exists(), reason="not a checkout"),
]

# Two in three are there twice, in partitions of different workers; one kills, and one fails.
TEXTS = [f"message {i % 20}" for i in range(60)]
TEXTS[9], TEXTS[50] = "<deadly>", "<broken>"
ROWS = pd.DataFrame({"id": range(60), "text": TEXTS})
FIRST = {text: i for i, text in list(enumerate(TEXTS))[::-1]}


@pytest.fixture
def classifier(postgres_server, tmp_path):
    cache = postgres_server.new_address()
    return LLMClassifier(LedgerBackend(str(tmp_path)), classes=["ham", "spam"], cache=cache)


def check(found, tmp_path, in_flight=0):
    """Every row is there, right, and was paid for once, but for what other killed workers asked."""
    found = found.sort_values("id")
    assert found["id"].tolist() == ROWS["id"].tolist()
    assert found["text"].tolist() == TEXTS
    backend = LedgerBackend(str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    (tmp_path / "elsewhere/killed").touch()
    fresh = LLMClassifier(backend, classes=["ham", "spam"], cache=None, on_error="nan")
    with pytest.warns(match="1 of 60 rows failed"):
        expected = fresh.predict_proba(TEXTS)
    np.testing.assert_allclose(found[["proba_ham", "proba_spam"]].astype(float), expected)
    assert found["failure"].notna().to_numpy().nonzero()[0].tolist() == [50]
    count = asked(tmp_path)
    assert count.pop("<deadly>") == 2  # when its worker was killed, no reply had come
    assert count.pop("<broken>") >= 1  # a failure that cost nothing may be asked again
    assert sum(count.values()) <= 20 + in_flight
    assert len(count) == 20


@pytest.fixture(scope="module", autouse=True)
def _workers_are_like_us():
    package = Path(importlib.util.find_spec("skllm_calib").origin).parents[1]
    path = [str(Path(__file__).parent), str(package), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


@pytest.fixture(scope="module")
def dask_cluster(needs):
    needs("distributed")
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster):
        yield


@pytest.fixture(scope="module")
def ray_data(needs):
    needs("ray")
    import ray

    ray.init(
        num_cpus=2, include_dashboard=False, logging_level="ERROR", _node_ip_address="127.0.0.1"
    )
    yield ray.data
    ray.shutdown()


@pytest.fixture(scope="module")
def spark(needs):
    needs("pyspark", "java")
    from pyspark.sql import SparkSession

    settings = {
        # Starts sooner.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.log.level": "OFF",
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
    }
    session = SparkSession.builder.master("local[2,4]").config(map=settings).getOrCreate()
    yield session
    session.stop()


def run_the_page(title, classifier, instead=None):
    """Run the code of a section of docs/scale.rst, and return its names.

    Of one engine after the other: each starts once, whichever process of pytest takes its test.
    """
    _, *parts = re.split(r"^(\S.*)\n[-=]{3,}\n", PAGE.read_text(encoding="utf-8"), flags=re.M)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    text = "".join(sections[name] for name in ("Past one machine", title))
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:(?: {3}.*)?\n)+)", text, re.M)
    code = "".join(textwrap.dedent(block) for block in blocks)
    shown = {
        '"openai:gpt-4.1-mini"': "stand_in",
        "postgresql://worker@db.example/replies": str(classifier.cache),
        **(instead or {}),
    }
    for one, other in shown.items():
        assert one in code
        code = code.replace(one, other)
    names = {"__name__": "__main__", "stand_in": classifier.model}
    exec(compile(code, PAGE.name, "exec"), names)
    return names


def check_page(names, folder):
    """The page has got all rows, and paid for each once."""
    assert names["done"].sort_values("id")["id"].tolist() == list(range(12))
    assert names["done"]["failure"].isna().all()
    count = {text: n for text, n in asked(folder).items() if text not in TEXTS}
    assert set(count.values()) == {1}
    assert len(count) == 212


@pytest.mark.filterwarnings("ignore")  # of the engine's own code, here and below
def test_dask(dask_cluster, classifier, tmp_path):
    import dask.dataframe as dd

    rows = dd.from_pandas(ROWS, npartitions=4)
    check(predict_dask(rows, classifier).compute(), tmp_path)
    assert len(askers(tmp_path)) >= 2  # the killed one did not go on
    with joblib.parallel_config("dask"):
        check(predict_joblib(ROWS, classifier, batch_size=15), tmp_path)
    start = "with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster)"
    names = run_the_page("Dask", classifier, instead={start: "if 1"})
    check_page(names, tmp_path)
    by_id = names["done"].sort_values("id")
    np.testing.assert_allclose(names["proba"], by_id[["proba_negative", "proba_positive"]])


@pytest.mark.filterwarnings("ignore")
def test_ray(ray_data, classifier, tmp_path):
    rows = ray_data.from_pandas([ROWS[i : i + 15] for i in range(0, 60, 15)])
    check(predict_ray(rows, classifier, n_workers=2, batch_size=15).to_pandas(), tmp_path)
    start = "ray.init(num_cpus=2, include_dashboard=False)"
    names = run_the_page("Ray Data", classifier, instead={start: "", "ray.shutdown()": ""})
    check_page(names, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_spark(spark, classifier, tmp_path):
    rows = spark.createDataFrame(ROWS).repartition(4).cache()
    found = predict_spark(rows, classifier).toPandas()
    check(found, tmp_path)
    spark.udf.register("proba", proba_udf(classifier))
    rows.createOrReplaceTempView("rows")
    again = spark.sql("SELECT id, proba(text) AS p FROM rows").toPandas().set_index("id")["p"]
    expected = found.set_index("id")[["proba_ham", "proba_spam"]].T
    assert [i for i, p in again.items() if p is None] == [50]
    for i, p in again.drop(50).items():
        np.testing.assert_array_equal(p, expected[i])
    check(found, tmp_path)  # and nothing was asked twice
    names = run_the_page("Spark", classifier, instead={"spark.stop()": ""})
    check_page(names, tmp_path)


def test_joblib_ends_when_a_worker_is_killed_and_goes_on_for_nothing(classifier, tmp_path):
    with joblib.parallel_config("loky", n_jobs=2):
        with pytest.raises(joblib.externals.loky.process_executor.TerminatedWorkerError):
            predict_joblib(ROWS, classifier, batch_size=15)
        # joblib ended the other worker, too, and perhaps in the middle of a question.
        check(predict_joblib(ROWS, classifier, batch_size=15), tmp_path, in_flight=1)


@pytest.mark.filterwarnings("ignore::UserWarning")  # about calibration with made-up numbers
def test_joblib_on_the_page(classifier, tmp_path):
    names = run_the_page("pandas, and joblib's backends", classifier)
    check_page(names, tmp_path)
