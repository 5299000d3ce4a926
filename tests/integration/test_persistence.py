"""Saved and loaded with pickle, joblib and skops: the same answers, and no secret in the file."""

from __future__ import annotations

import inspect
import io
import pickle
import re
import subprocess
import sys
import zipfile

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import skllm_calib
from skllm_calib import (
    Budget,
    CalibratedLLMClassifier,
    CalibrationMonitor,
    LlamaCppBackend,
    LLMClassifier,
    LLMEnsembleClassifier,
    OpenAIBackend,
    PredictionSets,
    Prompt,
    ResponseCache,
    ReviewClassifier,
    ReviewPolicy,
    RiskMatrix,
    calibrators,
    signals,
)
from skllm_calib import backends as backends_module
from skllm_calib.backends import AnthropicBackend, MistralBackend, TransformersBackend
from skllm_calib.calibration import CalibrationCard
from skllm_calib.calibrators import AutoCalibrator, TemperatureScaling
from skllm_calib.exceptions import DamagedFile
from skllm_calib.persistence import TRUSTED_TYPES, from_json, model_file, to_json
from skllm_calib.signals import SIGNALS, FusedSignal, OrderAveragedSignal

# Also the tests run where only what the package itself needs is installed.
skops_io = pytest.importorskip("skops.io")

TEXTS = [f"message {i:02d}" for i in range(40)]  # none is part of another
LABELS = ["ham", "spam"] * 20
SECRET = "sk-recognisable-0123456789"
METHODS = ["auto", "temperature", "vector", "platt", "isotonic"]

pytestmark = pytest.mark.filterwarnings("ignore:Isotonic calibration of 40 rows:UserWarning")


def _joblib_bytes(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return file.getvalue()


FORMATS = {
    "pickle": (pickle.dumps, pickle.loads),
    "joblib": (_joblib_bytes, lambda data: joblib.load(io.BytesIO(data))),
    "skops": (skops_io.dumps, lambda data: skops_io.loads(data, trusted=TRUSTED_TYPES)),
    "json": (lambda estimator: to_json(estimator).encode(), from_json),
}


def saved_and_loaded(estimator, formats=FORMATS):
    for name in formats:
        dumps, loads = FORMATS[name]
        yield loads(dumps(estimator))


def plain(data):
    """Return what a file says, unpacked where it is an archive, as skops writes it."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


@pytest.fixture
def backends(counted, monkeypatch, tmp_path):
    """One backend of each kind; those that need a server or a model are answered by a stand-in."""
    testing = counted()

    def run(_, requests):
        return testing.run(requests)

    monkeypatch.setattr(OpenAIBackend, "run", run)
    monkeypatch.setattr(OpenAIBackend, "answering", lambda self, first: None)
    monkeypatch.setattr(LlamaCppBackend, "run", run)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    (tmp_path / "model.gguf").write_bytes(b"GGUF, as far as its name goes")
    return {
        "testing": testing,
        "openai": OpenAIBackend("gpt", base_url="http://localhost:1/v1", extra_body={"top_p": 1}),
        "llama_cpp": LlamaCppBackend(str(tmp_path / "model.gguf"), n_ctx=512),
    }


PROMPTS = {
    "our own": None,
    "template": "{text} -- which is it? {hint}",
    "prompt": Prompt("{text}", instruction="Ham or spam? {hint}", answer="words", fence=True),
    "chat": Prompt(
        [{"role": "system", "content": "{hint}"}, {"role": "user", "content": "{text}"}]
    ),
}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("kind", ["testing", "openai", "llama_cpp"])
def test_classifiers(backends, kind, prompt):
    zero_shot = LLMClassifier(
        backends[kind], classes=["ham", "spam"], prompt=PROMPTS[prompt], cache=None
    )
    few_shot = LLMClassifier(backends[kind], n_shots=2, prompt=PROMPTS[prompt], cache=None)
    unfitted_answers = zero_shot.predict_proba(TEXTS)
    for again in saved_and_loaded(zero_shot):
        assert repr(again) == repr(zero_shot)
        np.testing.assert_array_equal(again.predict_proba(TEXTS), unfitted_answers)
        assert not hasattr(again, "fingerprint_")
    for clf in (zero_shot, few_shot):
        clf.fit(TEXTS, LABELS)
        for again in saved_and_loaded(clf):
            assert repr(again) == repr(clf)
            np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
            assert again.predict(TEXTS).dtype == clf.predict(TEXTS).dtype
            assert again.fingerprint_ == clf.fingerprint_
            assert again.examples_ == clf.examples_
            assert again.render(TEXTS[:2]) == clf.render(TEXTS[:2])


def test_unfitted_few_shot_classifiers_can_be_fitted_after_loading(backends):
    clf = LLMClassifier(backends["testing"], n_shots=1, cache=None)
    expected = LLMClassifier(backends["testing"], n_shots=1, cache=None).fit(TEXTS, LABELS)
    for again in saved_and_loaded(clf):
        assert not hasattr(again, "classes_")
        answers = again.fit(TEXTS, LABELS).predict_proba(TEXTS)
        np.testing.assert_array_equal(answers, expected.predict_proba(TEXTS))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("labels", [[0, 1], [False, True], [-1, 3]])
def test_labels_that_are_no_texts(backends, labels, format_):
    wording = dict(zip(labels, ["no", "yes"], strict=True))
    if labels == [False, True] and format_ == "skops":
        wording = None  # skops 0.16 reads dict keys that are False as True
    clf = LLMClassifier(
        backends["testing"],
        classes=np.array(labels),
        label_texts=wording,
        label_descriptions={labels[1]: "it asks for money"},
        n_shots=1,
        cache=None,
    ).fit(TEXTS, np.resize(labels, 40))
    dumps, loads = FORMATS[format_]
    again = loads(dumps(clf))
    assert again.classes_.tolist() == labels
    assert again.classes_.dtype == clf.classes_.dtype
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


def test_tables_and_output_containers(backends):
    frame = pd.DataFrame({"title": TEXTS, "price": range(40)})
    clf = LLMClassifier(backends["testing"], prompt="{title}: {price}", cache=None)
    clf.set_output(transform="pandas").fit(frame, LABELS)
    for again in saved_and_loaded(clf):
        pd.testing.assert_frame_equal(again.transform(frame), clf.transform(frame))
        with pytest.raises(ValueError, match="feature names"):
            again.predict(frame[["price", "title"]])


@pytest.mark.parametrize("n_shots", [0, 1])
@pytest.mark.parametrize("method", METHODS)
def test_calibrated_classifiers(backends, method, n_shots):
    llm = LLMClassifier(backends["testing"], n_shots=n_shots, cache=None)
    clf = CalibratedLLMClassifier(llm, method=method).fit(TEXTS, LABELS)
    for again in saved_and_loaded(clf):
        np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
        np.testing.assert_array_equal(again.predict(TEXTS), clf.predict(TEXTS))
        assert isinstance(again.calibration_card_, CalibrationCard)
        assert again.calibration_card_.to_json() == clf.calibration_card_.to_json()
        assert again.calibrator_.parameters_ == clf.calibrator_.parameters_


def two_stages():
    """Return a calibrator with a second stage, which takes 500 rows, and its scores."""
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=2, size=(600, 3))
    y = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    return AutoCalibrator().fit(2 * scores, y), scores


def test_a_calibrator_with_a_second_stage():
    fitted, scores = two_stages()
    assert fitted.confidence_curve_ is not None
    for again in saved_and_loaded(fitted):
        np.testing.assert_array_equal(again.predict_proba(scores), fitted.predict_proba(scores))


@pytest.mark.parametrize("kind", ["openai", "llama_cpp"])
def test_calibrated_classifiers_of_other_backends(backends, kind):
    llm = LLMClassifier(backends[kind], classes=["ham", "spam"], prompt=Prompt(), cache=None)
    clf = CalibratedLLMClassifier(llm, method=TemperatureScaling(prior_scale=0.5))
    for unfitted in saved_and_loaded(clf):
        assert repr(unfitted) == repr(clf)
    clf.fit(TEXTS, LABELS)
    for again in saved_and_loaded(clf):
        np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


def ensemble(backend):
    members = [
        ("plain", LLMClassifier(backend, cache=None)),
        ("examples", LLMClassifier(backend, n_shots=1, cache=None)),
    ]
    return LLMEnsembleClassifier(members, weights="fit").fit(TEXTS, LABELS)


def test_ensembles(backends):
    pool = ensemble(backends["testing"])
    clf = CalibratedLLMClassifier(FrozenEstimator(pool), method="vector").fit(TEXTS, LABELS)
    for estimator in (pool, clf):
        for again in saved_and_loaded(estimator):
            np.testing.assert_array_equal(
                again.predict_proba(TEXTS), estimator.predict_proba(TEXTS)
            )


def test_inside_of_other_estimators(backends):
    llm = LLMClassifier(backends["testing"], classes=["ham", "spam"], cache=None)
    frozen = CalibratedLLMClassifier(FrozenEstimator(llm), method="vector").fit(TEXTS, LABELS)
    piped = make_pipeline(llm).fit(TEXTS, LABELS)
    for clf, formats in ((frozen, FORMATS), (piped, ["pickle", "joblib", "skops"])):
        for again in saved_and_loaded(clf, formats):
            np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))


@pytest.mark.parametrize("form", ["path", "text", "cache"])
def test_a_loaded_classifier_goes_on_with_its_cache(backends, tmp_path, form):
    path = tmp_path / "replies.sqlite"
    cache = {"path": path, "text": str(path), "cache": ResponseCache(path)}[form]
    llm = LLMClassifier(backends["testing"], cache=cache)
    clf = CalibratedLLMClassifier(llm, method="temperature").fit(TEXTS, LABELS)
    for again in saved_and_loaded(clf):
        np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert backends["testing"].asked.total() == 40  # nothing twice


# ------------------------------------------------------------------------------ what is in the file


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["testing", "openai", "llama_cpp"])
def test_no_key_and_nothing_of_the_cache(backends, monkeypatch, tmp_path, kind, method):
    # An address with a password belongs into the environment, from where nothing is kept.
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://user:{SECRET}@localhost:1/v1")
    if kind == "openai":
        backends[kind].set_params(base_url=None)
    cache = ResponseCache(tmp_path / "replies.sqlite")
    llm = LLMClassifier(backends[kind], signal="logprobs", cache=cache)
    clf = CalibratedLLMClassifier(llm, method=method).fit(TEXTS, LABELS)
    clf.explain(TEXTS)
    assert len(cache) == 40
    for dumps, _ in FORMATS.values():
        content = plain(dumps(clf))
        assert b"replies.sqlite" in content  # else this would look into a packed file
        assert SECRET.encode() not in content
        assert not any(text.encode() in content for text in TEXTS)


def test_of_the_texts_only_examples_are_kept(backends):
    clf = LLMClassifier(backends["testing"], n_shots=1, cache=None).fit(TEXTS, LABELS)
    clf.predict(TEXTS)
    for dumps, _ in FORMATS.values():
        content = plain(dumps(clf))
        kept = {text for text in TEXTS if text.encode() in content}
        assert kept == {text for text, _ in clf.examples_}


def test_loading_with_skops_does_nothing(backends, monkeypatch, tmp_path):
    path = tmp_path / "elsewhere" / "replies.sqlite"
    llm = LLMClassifier(backends["openai"], classes=["ham", "spam"], cache=ResponseCache(path))
    data = skops_io.dumps(CalibratedLLMClassifier(llm))

    def refuse(*args, **options):
        raise AssertionError("something was asked or opened")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("sqlite3.connect", refuse)
    monkeypatch.setattr(OpenAIBackend, "run", refuse)
    again = skops_io.loads(data, trusted=TRUSTED_TYPES)
    assert again.estimator.cache == ResponseCache(path)
    assert not path.parent.exists()


# ---------------------------------------------------------------------------------- trusted types


def deciding():
    """Return what acts on probabilities, fitted."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = np.where(X[:, 0] + rng.normal(size=300) / 3 > 0, "spam", "ham")
    proba = LogisticRegression().fit(X, y).predict_proba(X)
    yield ReviewClassifier(LogisticRegression(), ReviewPolicy(0.6)).fit(X, y)
    for target in (
        {"max_reviews": 0.3},
        {"costs": 1.0, "review_cost": 0.1},
        {"target_precision": 0.999999, "on_not_certifiable": "review"},
    ):
        yield ReviewPolicy(**target).fit(y, proba)
    yield PredictionSets().fit(y, proba)
    yield RiskMatrix.five_by_five()
    monitor = CalibrationMonitor(tolerance=0.2, drift=0.3).fit(y, proba)
    monitor.update(None, proba, ids=range(300))
    assert monitor.update(y, proba[:, ::-1])
    yield monitor


def test_a_review_classifier_comes_back_from_skops():
    clf = next(deciding())
    X = np.random.default_rng(1).normal(size=(50, 2))
    again = skops_io.loads(skops_io.dumps(clf), trusted=TRUSTED_TYPES)
    assert again.predict(X).tolist() == clf.predict(X).tolist()
    assert again.policy_.summary() == clf.policy_.summary()


def test_every_trusted_type_is_needed_and_no_other(backends, tmp_path):
    needed = set()
    cache = ResponseCache(tmp_path / "replies.sqlite")
    for backend, kept in zip(backends.values(), (cache, cache.path, cache), strict=True):
        llm = LLMClassifier(backend, prompt=Prompt(), cache=kept, budget=Budget(tokens=10**9))
        needed |= set(skops_io.get_untrusted_types(data=skops_io.dumps(llm.fit(TEXTS, LABELS))))
    for hosted in (AnthropicBackend("m"), MistralBackend("m"), TransformersBackend("m")):
        needed |= set(skops_io.get_untrusted_types(data=skops_io.dumps(LLMClassifier(hosted))))
    parts = [signal() for signal in SIGNALS.values()]
    signal = OrderAveragedSignal(FusedSignal(parts))
    llm = LLMClassifier(backends["testing"], signal=signal)
    needed |= set(skops_io.get_untrusted_types(data=skops_io.dumps(llm)))
    for method in calibrators.CALIBRATORS:
        llm = LLMClassifier(backends["testing"], cache=cache)
        clf = CalibratedLLMClassifier(llm, method=method).fit(TEXTS, LABELS)
        needed |= set(skops_io.get_untrusted_types(data=skops_io.dumps(clf)))
    needed |= set(skops_io.get_untrusted_types(data=skops_io.dumps(two_stages()[0])))
    needed |= set(skops_io.get_untrusted_types(data=skops_io.dumps(ensemble(backends["testing"]))))
    for one in deciding():
        needed |= set(skops_io.get_untrusted_types(data=skops_io.dumps(one)))
    assert needed == set(TRUSTED_TYPES)
    assert len(set(TRUSTED_TYPES)) == len(TRUSTED_TYPES)


@pytest.mark.parametrize("module", [skllm_calib, backends_module, calibrators, signals])
def test_every_public_estimator_is_trusted(module):
    public = [getattr(module, name) for name in module.__all__]
    estimators = [c for c in public if inspect.isclass(c) and issubclass(c, BaseEstimator)]
    assert estimators
    for cls in estimators:
        if cls in (CalibrationMonitor, PredictionSets, ReviewClassifier, ReviewPolicy):
            continue  # not parts of a classifier; the monitor keeps itself as JSON
        trusted = f"{cls.__module__}.{cls.__qualname__}" in TRUSTED_TYPES
        assert trusted or inspect.isabstract(cls), cls


def test_a_backend_in_the_table_is_trusted():
    code = """
from skllm_calib.backends import PROVIDERS, Provider
PROVIDERS["fresh"] = Provider("fractions:Fraction", "fresh:NAME")
from skllm_calib.persistence import TRUSTED_TYPES
print("fractions.Fraction" in TRUSTED_TYPES)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_without_the_list_skops_refuses(backends):
    data = skops_io.dumps(LLMClassifier(backends["testing"]))
    with pytest.raises(skops_io.exceptions.UntrustedTypesFoundException, match="LLMClassifier"):
        skops_io.loads(data)
    foreign = skops_io.dumps(CalibratedLLMClassifier(FrozenEstimator(_Foreign())))
    with pytest.raises(skops_io.exceptions.UntrustedTypesFoundException, match="_Foreign"):
        skops_io.loads(foreign, trusted=TRUSTED_TYPES)


class _Foreign(BaseEstimator):
    """Stands for an estimator of somebody else."""


# ------------------------------------------------------------------------------- save and load


@pytest.fixture
def saved(backends, tmp_path):
    llm = LLMClassifier(backends["testing"], n_shots=1, prompt=PROMPTS["chat"], cache=None)
    clf = CalibratedLLMClassifier(llm, method="vector").fit(TEXTS, LABELS)
    clf.save(tmp_path / "clf")
    return clf, tmp_path / "clf"


@pytest.mark.parametrize("method", sorted(calibrators.CALIBRATORS))
def test_save_keeps_data(backends, tmp_path, method):
    llm = LLMClassifier(backends["testing"], classes=["ham", "spam"], cache=None)
    clf = CalibratedLLMClassifier(FrozenEstimator(llm), method=method).fit(TEXTS, LABELS)
    folder = tmp_path / "clf"
    clf.save(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["card.json", "model.json"]
    assert model_file(folder).name == "model.json"
    again = CalibratedLLMClassifier.load(folder)
    assert repr(again) == repr(clf)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert again.calibrator_.parameters_ == clf.calibrator_.parameters_


class _Bomb:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_no_pickle_is_read_unless_asked_for(saved, tmp_path):
    _, folder = saved
    (folder / "model.json").unlink()
    joblib.dump(_Bomb(str(tmp_path / "ran")), folder / "model.joblib")
    with pytest.raises(ValueError, match=r"model\.joblib' is a pickle.*allow_pickle=True"):
        CalibratedLLMClassifier.load(folder)
    assert not (tmp_path / "ran").exists()


def test_folders_of_earlier_releases_load_when_asked(saved):
    clf, folder = saved
    clf.save(folder, format="joblib")
    assert model_file(folder).name == "model.joblib"
    assert not (folder / "model.json").exists()
    again = CalibratedLLMClassifier.load(folder, allow_pickle=True)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    again.save(folder)
    assert not (folder / "model.joblib").exists()
    assert repr(CalibratedLLMClassifier.load(folder)) == repr(clf)


def test_estimators_of_others_need_a_pickle(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), np.arange(60) % 2
    clf = CalibratedLLMClassifier(LogisticRegression(), method="temperature").fit(X, y)
    with pytest.raises(
        TypeError, match=r"LogisticRegression cannot be saved as data.*format='joblib'"
    ):
        clf.save(tmp_path / "clf")
    assert not (tmp_path / "clf").exists()
    clf.save(tmp_path / "clf", format="joblib")
    again = CalibratedLLMClassifier.load(tmp_path / "clf", allow_pickle=True)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    with pytest.raises(ValueError, match="format"):
        clf.save(tmp_path, format="pickle")


def _tampered(text):
    yield ""
    yield text[:300]
    yield "[]"
    yield "{}"
    yield text.replace('"version": 1', '"version": 9', 1)
    yield text.replace('"type": "LLMClassifier"', '"type": "Popen"')
    yield text.replace('"type": "CalibratedLLMClassifier"', '"type": "LLMClassifier"')
    yield text.replace('"calibrator_"', '"x"')
    yield text.replace('"array"', '"arry"')
    yield text.replace('"dtype": "<U4"', '"dtype": "V8"')
    yield re.sub(r'"sha256": "\w+", ', "", text)
    yield re.sub(r'("temperature_?": )[-0-9.e]+', r"\g<1>1e308", text)


def test_a_damaged_classifier_is_one_clear_error(saved):
    _, folder = saved
    text = (folder / "model.json").read_text()
    for damaged in _tampered(text):
        assert damaged != text
        (folder / "model.json").write_text(damaged)
        with pytest.raises(DamagedFile, match=r"model\.json' cannot be used.*calibrate"):
            CalibratedLLMClassifier.load(folder)
    (folder / "model.json").write_bytes(b"\x80\x04\x95")
    with pytest.raises(DamagedFile, match="Restore a backup"):
        CalibratedLLMClassifier.load(folder)
    with pytest.raises(FileNotFoundError, match="no calibrated classifier"):
        CalibratedLLMClassifier.load(folder / "nowhere")


def test_every_type_has_a_name_of_its_own():
    names = [name.rpartition(".")[2] for name in TRUSTED_TYPES]
    assert len(set(names)) == len(names)
