import json
import stat
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skllm_calib.decisions import ExpectedCost, ReviewBudget, ReviewPolicy, TargetPrecision
from skllm_calib.exceptions import NotCertifiableError

# The figures of these tests are for a confidence of 90 %.
at_90 = partial(ReviewPolicy, confidence=0.9)
COSTS = [[0, 4.25, 7], [1 / 3, -0.1, 9], [2, 2, 0]]
POLICIES = {
    "default": at_90(0.9),
    "error": at_90(max_error=0.12, confidence=0.8, random_state=3),
    "class": at_90(0.9, per_class=True),
    "class, not certifiable": at_90(0.97, per_class=True, on_not_certifiable="review"),
    "floor": at_90(0.9, reject_below=0.61),
    "not certifiable": at_90(0.9999, on_not_certifiable="review"),
    "share": at_90(max_reviews=0.2),
    "day": at_90(max_reviews=(20, 100), reject_below=0.55),
    "list": at_90(max_reviews=[np.int64(20), 100]),
    "cost": at_90(costs=10, review_cost=1),
    "costs": at_90(costs=COSTS, review_cost=0.7, reject_cost=np.float32(0.6)),
    "costs, array": at_90(costs=np.array(COSTS), review_cost=0.7),
    "costs, frame": at_90(costs=pd.DataFrame(COSTS), review_cost=0.7),
    "rule": at_90(rule=TargetPrecision(0.9)),
}
NAMES = {
    "str": np.array(["a", 'b"\n', "ü"]),
    "int": np.array([-1, 0, 7]),
    "small int": np.array([1, 2, 3], dtype=np.int8),
    "float": np.array([0.1, 1 / 3, 2], dtype=np.float32),
    "object": np.array(["a", "b", "c"], dtype=object),
}


def rows(size=1000, seed=0):
    rng = np.random.default_rng(seed)
    stated = 0.5 + 0.5 * rng.beta(1.75, 0.75, size)
    label = rng.choice(3, size, p=[0.6, 0.35, 0.05])
    proba = np.repeat((1 - stated)[:, None] / 2, 3, axis=1)
    proba[np.arange(size), label] = stated
    right = rng.random(size) < stated
    return proba, np.where(right, label, (label + 1) % 3)


PROBA, CODES = rows()
# Written by the version before rules were objects.
SAVED_BEFORE = json.loads(Path(__file__).with_name("saved_policies.json").read_text("utf-8"))


def fitted(policy, names="str", labelled=True):
    classes = NAMES[names]
    return policy.fit(classes[CODES] if labelled else None, PROBA, classes=classes)


def assert_equal(again, policy):
    shown = vars(policy).items()
    assert set(vars(again)) == set(vars(policy))
    for name, value in shown:
        other = getattr(again, name)
        if name == "_fitted":
            assert vars(other.rule).keys() == vars(value.rule).keys()
            for mine, its in zip(
                vars(value.decider).values(), vars(other.decider).values(), strict=True
            ):
                np.testing.assert_array_equal(its, mine)
            mine, its = value.findings.error, other.findings.error
            assert (str(its), getattr(its, "n_more", None)) == (
                str(mine),
                getattr(mine, "n_more", None),
            )
        elif name in ("evidence_", "rule"):
            assert repr(other) == repr(value)  # NaN is not equal to itself
        else:
            np.testing.assert_array_equal(other, value)
    probes = np.vstack([rows(300, seed=1)[0], np.full((1, 3), np.nan)])
    assert again.decide(probes).tolist() == policy.decide(probes).tolist()
    assert again.predict(probes).tolist() == policy.predict(probes).tolist()
    assert again.explain(probes) == policy.explain(probes)
    assert again.summary() == policy.summary()
    assert again.coverage_ == policy.coverage_


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_comes_back_as_it_was(name, tmp_path):
    policy = fitted(POLICIES[name])
    policy.save(tmp_path / "policy.json")
    again = ReviewPolicy.load(tmp_path / "policy.json")
    assert_equal(again, policy)
    assert again.to_json() == policy.to_json()
    json.loads((tmp_path / "policy.json").read_text("utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize("name", SAVED_BEFORE)
def test_a_file_of_an_earlier_version(name):
    before = SAVED_BEFORE[name]
    policy = ReviewPolicy.from_dict(before["saved"])
    assert policy.decide(PROBA[:40]).tolist() == before["decides"]
    assert policy.to_dict() == before["saved"]  # not even a key has changed
    if before["saved"]["error"] is None:  # its wording may change
        assert policy.summary() == fitted(POLICIES[name]).summary()


@pytest.mark.parametrize(
    ("rule", "alike"),
    [
        (TargetPrecision(0.9, per_class=True), "class"),
        (TargetPrecision(1 - 0.12), None),
        (ReviewBudget((20, 100), reject_below=0.55), "day"),
        (ExpectedCost(COSTS, 0.7), "costs, array"),
    ],
)
def test_a_rule_says_the_same_as_the_parameters_that_stand_for_it(rule, alike):
    policy = fitted(at_90(rule=rule))
    again = ReviewPolicy.from_json(policy.to_json())
    assert_equal(again, policy)
    assert again.get_params()["rule"].get_params() == rule.get_params()
    if alike is not None:
        assert policy.summary() == fitted(POLICIES[alike]).summary()
        assert policy.promises_ == POLICIES[alike].promises_
    with pytest.raises(ValueError, match="not those that it was fitted with"):
        policy.set_params(rule=TargetPrecision(0.5)).to_dict()


class Unnamed(TargetPrecision):
    pass


def test_a_rule_without_a_name_is_not_saved():
    policy = fitted(at_90(rule=Unnamed(0.9)))
    with pytest.raises(ValueError, match=r"add it to skllm_calib\.decisions\.RULES"):
        policy.to_dict()


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("name", ["class", "costs"])
def test_labels_of_every_kind(name, names):
    policy = fitted(POLICIES[name], names)
    again = ReviewPolicy.from_dict(policy.to_dict())
    assert_equal(again, policy)
    assert again.classes_.dtype == policy.classes_.dtype
    if name == "class":
        assert list(map(type, again.uncertified_)) == list(map(type, policy.uncertified_))


def test_two_classes_of_bool():
    policy = at_90(0.9).fit(np.full(100, True), np.linspace(0.6, 1, 100), classes=[False, True])
    again = ReviewPolicy.from_json(policy.to_json().encode())
    assert again.predict([0.3, 0.9]).tolist() == [False, True]
    assert again.classes_.dtype == bool


def test_numbers_of_numpy_in_an_array_of_objects():
    classes = np.array([np.int64(1), np.int64(2), 3], dtype=object)
    policy = at_90(0.9, per_class=True).fit(classes[CODES], PROBA, classes=classes)
    again = ReviewPolicy.from_json(policy.to_json())
    assert again.evidence_ == policy.evidence_
    assert again.predict(PROBA).tolist() == policy.predict(PROBA).tolist()


@pytest.mark.parametrize("name", ["share", "day", "cost"])
def test_without_labels(name):
    policy = fitted(POLICIES[name], labelled=False)
    assert_equal(ReviewPolicy.from_json(policy.to_json()), policy)


def test_a_fit_of_the_policy_that_was_read():
    policy = fitted(POLICIES["error"])
    again = ReviewPolicy.from_json(policy.to_json()).fit(NAMES["str"][CODES], PROBA)
    assert_equal(again, policy)


def test_thresholds_that_json_lacks_are_texts():
    content = fitted(POLICIES["class, not certifiable"]).to_dict()
    assert "inf" in [found["threshold"] for found in content["evidence"]]
    assert fitted(POLICIES["cost"]).to_dict()["evidence"][0]["threshold"] == "nan"


def test_only_a_fitted_policy_is_saved(tmp_path):
    with pytest.raises(NotFittedError):
        at_90().save(tmp_path / "policy.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("default", {"target_precision": 0.99}),
        ("default", {"confidence": 0.99}),
        ("default", {"reject_below": 0.6}),
        ("default", {"per_class": True}),
        ("class", {"per_class": False}),
        ("cost", {"costs": 100}),
        ("cost", {"costs": None, "review_cost": None}),
    ],
)
def test_parameters_changed_since_the_fit(name, change):
    with pytest.raises(ValueError, match="not those that it was fitted with: fit it again"):
        fitted(ReviewPolicy(**POLICIES[name].get_params())).set_params(**change).to_dict()


def test_dates_are_no_labels():
    days = np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]")
    with pytest.raises(ValueError, match="classes must hold strings, integers"):
        at_90(max_reviews=0.5).fit(None, [0.2, 0.9], classes=days)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "policy.json"
    fitted(POLICIES["default"]).save(path)
    path.chmod(0o600)
    before = path.read_text("utf-8")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        fitted(POLICIES["cost"]).save(path)
    assert path.read_text("utf-8") == before
    assert [p.name for p in tmp_path.iterdir()] == ["policy.json"]
    monkeypatch.undo()
    fitted(POLICIES["cost"]).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"x"',
        '{"format": "skllm_calib.CalibrationMonitor"}',
        b"\xff\xfe\xfa",
        "[" * 100_000,
    ],
)
def test_something_else(text):
    with pytest.raises(ValueError, match="not a saved ReviewPolicy"):
        ReviewPolicy.from_json(text)


def test_another_version():
    content = {**fitted(POLICIES["default"]).to_dict(), "version": 2}
    with pytest.raises(ValueError, match=r"version 2, and this release .* reads version 1"):
        ReviewPolicy.from_dict(content)


def test_more_confidence_than_the_evidence_bears_out():
    text = fitted(POLICIES["default"]).to_json()
    assert text.count('"confidence": 0.9,') == 2
    with pytest.raises(ValueError, match="promises something else"):
        ReviewPolicy.from_json(text.replace('"confidence": 0.9,', '"confidence": 0.999999,'))


def changed(name, path, value):
    content = fitted(POLICIES[name]).to_dict()
    part = content
    for key in path[:-1]:
        part = part[key]
    if value is KeyError:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("default", ["n_rows"], KeyError, r"lacks \['n_rows'\]"),
        ("rule", ["parameters", "rule", "name"], "x", "its rule is 'x'"),
        ("rule", ["parameters", "rule", "precision"], 2, "'precision' parameter"),
        ("rule", ["parameters", "rule"], [], "its rule is None"),
        ("rule", ["promises"], {"recall": "x"}, "must be a number, got"),
        ("default", ["more"], 1, r"has the unknown \['more'\]"),
        ("default", ["parameters"], [], "parameters must be an object"),
        ("default", ["parameters", "confidence"], 1.5, "'confidence' parameter"),
        ("default", ["parameters", "confidence"], 0.99, "promises something else"),
        ("default", ["parameters", "target_precision"], 0.8, "promises something else"),
        ("default", ["parameters", "costs"], 1, "two targets"),
        ("default", ["certified_precision"], 0.99, "promises something else"),
        ("default", ["certified_precision"], None, "promises something else"),
        ("default", ["evidence", 0, "n_errors"], 500, "promises something else"),
        ("not certifiable", ["certified_precision"], 0.9999, "promises something else"),
        ("default", ["evidence"], [], "a list of 1"),
        ("default", ["evidence"], {}, "a list of 1"),
        ("default", ["evidence", 0, "threshold"], "0.5", "must be a number, got"),
        ("default", ["evidence", 0, "threshold"], "nan", "threshold is nan"),
        ("default", ["evidence", 0, "threshold"], -1, "threshold is -1"),
        ("default", ["evidence", 0, "threshold"], float("inf"), "must be a number, got"),
        ("default", ["evidence", 0, "threshold"], True, "must be a number, got"),
        ("default", ["evidence", 0, "n_rows"], 1.5, "must be a number of rows, got"),
        ("default", ["evidence", 0, "n_errors"], -1, "must be a number of rows, got"),
        ("default", ["evidence", 0, "predicted"], "a", "predicted is 'a'"),
        ("default", ["classes"], ["a", "b", "ü"], "classes must be an object"),
        ("default", ["classes", "values"], "abc", "must be sorted labels"),
        ("default", ["classes", "values"], ["b", "a", "c"], "must be sorted labels"),
        ("default", ["classes", "values"], [1, 2, 3], "must be sorted labels"),
        ("default", ["classes", "values"], [["a"], ["b"]], "must be sorted labels"),
        ("default", ["classes", "dtype"], "U99999999999", "must be sorted labels"),
        ("default", ["classes", "dtype"], "datetime64[D]", "must be sorted labels"),
        ("default", ["classes", "dtype"], "nonsense", "must be sorted labels"),
        ("default", ["classes", "dtype"], 3, "must be a text, got"),
        ("default", ["shares"], {"accept": 1}, "shares lacks"),
        ("default", ["shares", "accept"], None, "must be a number, got"),
        ("default", ["n_labels"], 3, "neither 0 nor all"),
        ("default", ["error"], {"message": 1, "n_more": 1}, "must be a text, got"),
        ("default", ["error"], "no", "must be an object, got"),
        ("class", ["evidence", 1, "predicted"], "a", "predicted is 'a'"),
        ("class", ["parameters", "per_class"], False, "a list of 1"),
        ("day", ["parameters", "max_reviews"], [5, 2], "max_reviews"),
        ("day", ["parameters", "max_reviews"], {}, "max_reviews"),
        ("costs", ["parameters", "costs"], [[0, 1], [1, 0]], "true x predicted"),
        ("costs", ["parameters", "costs"], [["x"] * 3] * 3, "could not convert"),
        ("costs", ["parameters", "costs"], [[None] * 3] * 3, "finite numbers"),
        ("costs", ["expected_cost_interval"], [1], "two numbers"),
        ("costs", ["evidence", 0, "threshold"], 0.5, "threshold is 0.5"),
    ],
)  # fmt: skip
def test_content_that_no_policy_wrote(name, path, value, message):
    content = changed(name, path, value)
    with pytest.raises(ValueError, match=f"(?s){message}") as caught:
        ReviewPolicy.from_dict(content)
    assert not isinstance(caught.value, NotCertifiableError)
