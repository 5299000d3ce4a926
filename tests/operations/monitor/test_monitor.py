"""The monitor in use: late labels, weights, changed models, alarms, saved states, bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import skllm_calib.operations.monitor
from skllm_calib.exceptions import InvalidInput
from skllm_calib.operations.monitor import CalibrationAlarm, CalibrationMonitor
from skllm_calib.operations.monitor.alarms import labels_to_recalibrate

CLASSES = ["a", "b", "c"]
LABEL_FREE = ("confidences", "predicted_labels")
LABELLED = ("cusum", "e_detector")


def draw(rng, n_rows, prior=(0.5, 0.3, 0.2), sharper=1.0, wrong=0.0):
    """Rows of a calibrated classifier of three classes, or of one that is off."""
    y = rng.choice(3, n_rows, p=prior)
    score = np.log([0.5, 0.3, 0.2]) + 2 * rng.normal(2 * np.eye(3)[y])
    proba = np.exp(sharper * score)
    y = np.where(rng.random(n_rows) < wrong, (y + 1) % 3, y)
    return np.array(CLASSES)[y], proba / proba.sum(axis=1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def monitor(rng):
    return CalibrationMonitor().fit(*draw(rng, 400))


def test_calm_is_calm_and_an_alarm_lasts_until_reset(monitor, rng):
    assert monitor.update(*draw(rng, 500)) == []
    assert monitor.status == "calm"
    raised = monitor.update(*draw(rng, 800, wrong=0.25))
    assert {alarm.kind for alarm in raised} == set(LABELLED)
    assert monitor.status == "alarm"
    assert monitor.alarms_ == raised
    assert monitor.update(*draw(rng, 500, wrong=0.25)) == []  # said once
    assert monitor.status == "alarm"
    monitor.reset()
    assert (monitor.status, monitor.alarms_, monitor.n_rows_) == ("calm", [], 1800)
    again = monitor.update(*draw(rng, 500, wrong=0.25))
    assert {alarm.kind for alarm in again} == set(LABELLED)
    assert all(1800 <= alarm.since_row <= alarm.row < 2300 for alarm in again)


@pytest.mark.parametrize("kind", LABELLED)
def test_the_start_of_a_change_is_estimated(kind):
    starts = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        monitor = CalibrationMonitor(detectors=[kind]).fit(*draw(rng, 300))
        monitor.update(*draw(rng, 400))
        raised = monitor.update(*draw(rng, 600, wrong=0.25))
        starts += [alarm.since_row for alarm in raised]
    assert len(starts) == 12
    assert abs(np.median(starts) - 400) < 25


def test_an_alarm_says_what_it_saw_and_what_to_do(monitor, rng):
    calm, off = draw(rng, 300), draw(rng, 600, wrong=0.3)
    y, proba = np.concatenate([calm[0], off[0]]), np.concatenate([calm[1], off[1]])
    alarm = next(a for a in monitor.update(y, proba) if a.kind == "cusum")
    rows = slice(alarm.since_row, alarm.row + 1)
    confidence = proba[rows].max(axis=1).mean()
    accuracy = (np.array(CLASSES)[proba[rows].argmax(axis=1)] == y[rows]).mean()
    n = rows.stop - rows.start
    assert alarm.reason == (
        f"The confidences are too high: {confidence:.1%} on average over the {n} label(s) since "
        f"about row {alarm.since_row}, of which {accuracy:.1%} are right."
    )
    needed = labels_to_recalibrate(accuracy, 3)
    assert alarm.labels_needed == needed
    assert alarm.action == (
        f"Recalibrate with about {needed} labels of rows since row {alarm.since_row} ({n} are "
        f"there, about {needed - n} more are needed)."
    )
    assert alarm.statistic > alarm.threshold > 0
    assert alarm.n_labels == alarm.row + 1
    assert str(alarm) == f"cusum, row {alarm.row}: {alarm.reason} {alarm.action}"
    assert CalibrationAlarm(**json.loads(json.dumps(alarm.to_dict()))) == alarm


def test_the_number_of_labels_follows_the_rule():
    assert labels_to_recalibrate(0.85, 2) == 210  # 2 / pi * .1275 / .0004 = 202.9
    assert labels_to_recalibrate(0.7, 2) == 340  # 334.2
    assert labels_to_recalibrate(0.99, 2) == 50
    assert labels_to_recalibrate(0.99, 20) == 200


def test_too_little_confidence_is_found_too(rng):
    monitor = CalibrationMonitor().fit(*draw(rng, 400))
    raised = monitor.update(*draw(rng, 3000, sharper=0.4))
    found = {alarm.kind: alarm for alarm in raised}
    assert "too low" in found["cusum"].reason
    assert "too low" in found["e_detector"].reason


def test_drift_without_labels(rng):
    monitor = CalibrationMonitor().fit(*draw(rng, 1000))
    assert monitor.update(None, draw(rng, 1000)[1]) == []
    sharper = monitor.update(None, draw(rng, 1000, sharper=2)[1])
    assert [alarm.kind for alarm in sharper] == ["confidences"]
    assert abs(sharper[0].since_row - 1000) < 100
    assert re.search(r"9\d\.\d% on average over .* and 8\d\.\d% in the ref", sharper[0].reason)
    assert sharper[0].n_labels == 0
    monitor.reset()
    shifted = monitor.update(None, draw(rng, 500, prior=(0.1, 0.2, 0.7))[1])
    labels = next(alarm for alarm in shifted if alarm.kind == "predicted_labels")
    assert re.search(r"'[ac]' is predicted for", labels.reason)
    assert "estimate_class_prior" in labels.action
    assert 2000 <= labels.since_row <= labels.row < 2500


def test_label_free_detectors_are_blind_to_wrong_answers_and_labels_are_not(rng):
    monitor = CalibrationMonitor().fit(*draw(rng, 400))
    raised = monitor.update(*draw(rng, 1500, wrong=0.2))
    assert {alarm.kind for alarm in raised} == set(LABELLED)


def state(monitor):
    return json.loads(monitor.to_json())["state"]


def test_late_labels_count_like_prompt_ones(rng):
    reference, (y, proba) = draw(rng, 300), draw(rng, 400, wrong=0.2)
    prompt = CalibrationMonitor().fit(*reference)
    late = CalibrationMonitor().fit(*reference)
    prompt.update(y, proba)
    assert late.update(None, proba, ids=range(400)) == []
    assert late.summary()["pending_rows"] == 400
    raised = late.add_labels(np.arange(250), y[:250])
    raised += late.add_labels(range(250, 400), y[250:])
    assert late.summary()["pending_rows"] == 0
    assert state(late)["labels"] == state(prompt)["labels"]
    # The same alarms, of the same rows; they come when all the rows have been seen.
    assert {a.kind for a in raised} == {a.kind for a in prompt.alarms_ if a.kind in LABELLED}
    assert [a.since_row for a in raised] == [
        a.since_row for a in prompt.alarms_ if a.kind in LABELLED
    ]
    assert {a.row for a in raised} == {399}


def test_some_labels_now_and_some_later(rng):
    monitor = CalibrationMonitor().fit(*draw(rng, 300))
    y, proba = draw(rng, 6)
    known = y.astype(object)
    known[[1, 2, 4]] = [None, np.nan, None]
    monitor.update(known, proba, ids=["r0", "r1", "r2", "r3", "r4", 5])
    assert (monitor.n_rows_, monitor.n_labels_) == (6, 3)
    monitor.add_labels(["r4"], y[[4]])
    assert monitor.n_labels_ == 4
    with pytest.raises(ValueError, match=r"2 id\(s\) do not wait for a label, first 'r4'"):
        monitor.add_labels(["r4", "r1", "gone"], y[[4, 1, 0]])
    assert monitor.n_labels_ == 4  # nothing was taken
    monitor.add_labels(["r4", "r1", "gone"], y[[4, 1, 0]], unknown="ignore")
    assert monitor.n_labels_ == 5
    assert [name for name, *_ in state(monitor)["pending"]] == ["r2"]


def test_labels_of_numbers_with_nan():
    monitor = CalibrationMonitor().fit(None, [0.2, 0.8], classes=[0, 1])
    monitor.update([0, np.nan, 1], [0.3, 0.9, 0.6])
    assert (monitor.n_rows_, monitor.n_labels_) == (3, 2)
    assert monitor.summary()["labelled_accuracy"] == 1.0


def test_the_oldest_waiting_rows_are_dropped(rng):
    monitor = CalibrationMonitor(max_pending=3).fit(*draw(rng, 300))
    monitor.update(None, draw(rng, 5)[1], ids=list("vwxyz"))
    assert monitor.summary()["dropped_rows"] == 2
    with pytest.raises(ValueError, match=r"more than 3 \(max_pending\)"):
        monitor.add_labels(["w"], ["a"])
    monitor.add_labels(["x"], ["a"])


def test_single_rows_and_batches_are_the_same(rng):
    reference, (y, proba) = draw(rng, 300), draw(rng, 120, wrong=0.4)
    at_once = CalibrationMonitor(average_run_length=50).fit(*reference)
    one_by_one = CalibrationMonitor(average_run_length=50).fit(*reference)
    at_once.update(y, proba)
    for k in range(120):
        one_by_one.update(y[[k]], proba[[k]])
    assert at_once.alarms_
    assert one_by_one.to_json() == at_once.to_json()


def test_a_weight_of_two_counts_twice_in_the_means(rng):
    reference = draw(rng, 300)
    weight = np.where(np.arange(300) % 2, 1.0, 3.0)
    monitor = CalibrationMonitor().fit(*reference, weight)
    assert monitor.max_weight_ == 3
    y, proba = ["a", "b"], np.array([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2]])
    monitor.update(y, proba, [3.0, 1.0])
    summary = monitor.summary()
    assert summary["labelled_confidence"] == pytest.approx((3 * 0.9 + 0.5) / 4)
    assert summary["labelled_accuracy"] == pytest.approx(3 / 4)
    monitor.update(y, proba, [0.0, 1.0])  # of no weight, so of no account
    assert monitor.n_labels_ == 3
    confidence = reference[1].max(axis=1)
    right = np.array(CLASSES)[reference[1].argmax(axis=1)] == reference[0]
    expected = [np.average(values, weights=weight) for values in (confidence, right)]
    assert list(summary["reference"].values()) == pytest.approx(expected)


def test_equal_weights_are_no_weights(rng):
    reference, (y, proba) = draw(rng, 300), draw(rng, 400, wrong=0.2)
    plain = CalibrationMonitor().fit(*reference)
    double = CalibrationMonitor().fit(*reference, np.full(300, 2.0))
    one = [(a.kind, a.row, a.reason) for a in plain.update(y, proba)]
    two = [(a.kind, a.row, a.reason) for a in double.update(y, proba, np.full(400, 2.0))]
    assert len(one) == 2
    assert two == one
    again = CalibrationMonitor().fit(*reference, np.full(300, 2.0))
    assert [(a.kind, a.row, a.reason) for a in again.update(y, proba)] == one


def test_a_weight_given_with_the_label_replaces_the_one_given_with_the_row(rng):
    monitor = CalibrationMonitor(detectors=["e_detector"], max_weight=8).fit(*draw(rng, 50))
    proba = draw(rng, 2)[1]
    monitor.update(None, proba, sample_weight=[2.0, 2.0], ids=["x", "y"])
    monitor.add_labels(["x"], ["a"])
    monitor.add_labels(["y"], ["a"], [8.0])
    assert state(monitor)["labels"]["totals"][2] == 10


def test_one_class_can_be_watched_instead_of_the_top_label(rng):
    y, proba = draw(rng, 2000)
    watch = CalibrationMonitor(kind="c").fit(y, proba)
    assert watch.summary()["reference"]["confidence"] == pytest.approx(proba[:, 2].mean())
    assert watch.summary()["reference"]["accuracy"] == pytest.approx((y == "c").mean())
    fewer = np.where((y == "c") & (rng.random(2000) < 0.7), "a", y)
    raised = watch.update(fewer, proba)
    assert {alarm.kind for alarm in raised} == set(LABELLED)
    assert all("too high" in alarm.reason for alarm in raised)


def test_another_fingerprint_raises_an_alarm_once(rng):
    monitor = CalibrationMonitor().fit(*draw(rng, 300))
    assert monitor.update(None, draw(rng, 10)[1], fingerprint="gpt-1 (May)") == []  # the first one
    assert monitor.update(None, draw(rng, 10)[1]) == []
    (alarm,) = monitor.update(None, draw(rng, 10)[1], fingerprint="gpt-1 (June)")
    assert (alarm.kind, alarm.row, alarm.since_row) == ("fingerprint", 19, 20)
    assert alarm.reason == "The model as served is 'gpt-1 (June)'; it was 'gpt-1 (May)'."
    assert "of rows since row 20" in alarm.action
    assert monitor.update(None, draw(rng, 10)[1], fingerprint="gpt-1 (June)") == []
    assert monitor.summary()["detectors"]["fingerprint"]["alarmed"]
    monitor.reset()  # taken note of
    assert monitor.update(None, draw(rng, 10)[1], fingerprint="gpt-1 (June)") == []
    known = CalibrationMonitor().fit(*draw(rng, 300), fingerprint="v1")
    assert [a.kind for a in known.update(None, draw(rng, 1)[1], fingerprint="v2")] == [
        "fingerprint"
    ]


def test_probes(rng):
    answers = draw(rng, 20)[1]
    monitor = CalibrationMonitor(probe_tolerance=0.01).fit(*draw(rng, 300), probes=answers)
    monitor.update(None, draw(rng, 7)[1])
    assert monitor.check_probes(answers) == []
    monitor.update(None, draw(rng, 3)[1])
    moved = 0.9 * answers + 0.1 / 3
    (alarm,) = monitor.check_probes(moved)
    apart = np.abs(moved - answers).sum(axis=1) / 2
    assert alarm.statistic == pytest.approx(apart.mean())
    assert alarm.threshold == 0.01
    assert (alarm.row, alarm.since_row) == (9, 7)  # some time since they were last as ever
    assert f"{apart.mean():.3f} on average (largest {apart.max():.3f}), and 0 of" in alarm.reason
    assert monitor.check_probes(moved) == []
    assert monitor.reset().check_probes(moved) == []
    with pytest.raises(ValueError, match="must hold 20 probes, got 3"):
        monitor.check_probes(moved[:3])
    with pytest.raises(ValueError, match="fit the monitor with probes="):
        CalibrationMonitor().fit(*draw(rng, 30)).check_probes(moved)


def play(rng, interrupt):
    """A long life with everything in it; `interrupt` is applied between any two steps."""
    reference = draw(rng, 200)
    weight = rng.choice([1.0, 2.5], 200)
    monitor = CalibrationMonitor(
        average_run_length=150, unlabelled_run_length=300, max_pending=60
    ).fit(*reference, weight, fingerprint="v1", probes=reference[1][:5])
    raised = []
    for step in range(12):
        y, proba = draw(rng, 25, sharper=1 + step / 6, wrong=step / 40)
        weight = rng.choice([1.0, 2.5], 25)
        ids = [f"{step}-{k}" if k % 2 else 100 * step + k for k in range(25)]
        if step % 3:
            raised += monitor.update(y, proba, weight)
        else:
            raised += monitor.update(None, proba, weight, ids=ids, fingerprint=f"v{step // 4}")
        monitor = interrupt(monitor)
        if step % 3 == 0:
            raised += monitor.add_labels(ids[3:12], y[3:12])
            raised += monitor.check_probes(draw(rng, 5)[1] if step == 9 else reference[1][:5])
            monitor = interrupt(monitor)
        if step == 7:
            monitor.reset()
    return monitor, raised


def test_a_saved_and_resumed_watch_decides_the_same_to_the_last_bit(tmp_path):
    def through_a_file(monitor):
        monitor.save(tmp_path / "watch.json")
        return CalibrationMonitor.load(tmp_path / "watch.json")

    whole, raised = play(np.random.default_rng(1), lambda monitor: monitor)
    resumed, raised_again = play(np.random.default_rng(1), through_a_file)
    assert {"cusum", "e_detector", "fingerprint", "probes"} <= {a.kind for a in raised}
    assert raised_again == raised
    assert resumed.to_json() == whole.to_json()
    assert resumed.summary() == whole.summary()
    assert [path.name for path in tmp_path.iterdir()] == ["watch.json"]


@pytest.mark.parametrize("classes", [[0, 1], [False, True], ["no", "yes"], [0.5, 1.5]])
def test_classes_of_every_kind_survive_a_file(classes):
    monitor = CalibrationMonitor(kind=classes[1]).fit(None, [0.2, 0.8], classes=classes)
    resumed = CalibrationMonitor.from_json(monitor.to_json())
    assert resumed.classes_.tolist() == classes
    assert resumed.kind == classes[1]
    assert resumed.update(classes[::-1], [0.7, 0.1]) == []
    assert resumed.n_labels_ == 2


def test_a_failed_save_leaves_the_old_state(monitor, tmp_path, monkeypatch):
    path = tmp_path / "watch.json"
    monitor.save(path)
    before = path.read_text(encoding="utf-8")

    def no_space(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(OSError, match="no space left"):
        monitor.save(path)
    assert path.read_text(encoding="utf-8") == before
    assert [p.name for p in tmp_path.iterdir()] == ["watch.json"]


def test_other_json_is_refused(monitor):
    for text in ("{", "[]", '{"format": "something else"}'):
        with pytest.raises(ValueError, match=r"not the (JSON|state) of a CalibrationMonitor"):
            CalibrationMonitor.from_json(text)
    newer = monitor.to_json().replace('"version": 1', '"version": 2')
    with pytest.raises(ValueError, match=r"version 2, and this release .* reads version 1"):
        CalibrationMonitor.from_json(newer)


SAMPLE = re.compile(
    r'([a-z_]+)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\n"])*",?)*)\})? (-?[\d.]+(?:e[+-]?\d+)?)'
)


def test_prometheus_text(monitor, rng):
    monitor.update(*draw(rng, 400, wrong=0.4), fingerprint="v1")
    text = monitor.to_prometheus({"model": 'the "big"\\one\n'})
    assert text.endswith("\n")
    typed, samples = {}, {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            assert len(line.split(" ", 3)[3]) > 5
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in typed
            assert kind == ("counter" if name.endswith("_total") else "gauge")
            typed[name] = kind
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            assert name in typed  # below its TYPE line
            given = r'model="the \"big\"\\one\n"'
            assert labels.startswith(given)
            own = labels.removeprefix(given).removeprefix(",")
            samples[name.removeprefix("skllm_calib_monitor_"), own] = float(value)
    assert samples["rows_total", ""] == samples["labels_total", ""] == 400
    assert samples["alarm", 'kind="cusum"'] == samples["alarms_total", 'kind="cusum"'] == 1
    assert samples["alarm", 'kind="fingerprint"'] == 0
    assert ("statistic", 'kind="probes"') not in samples  # nothing known, nothing said
    summary = monitor.summary()
    assert samples["labelled_accuracy_ratio", ""] == summary["labelled_accuracy"]
    shares = [v for (name, _), v in samples.items() if name == "predicted_label_ratio"]
    assert sum(shares) == pytest.approx(1)
    monitor.reset()
    assert 'alarm{kind="cusum"} 0.0' in monitor.to_prometheus()
    assert 'alarms_total{kind="cusum"} 1.0' in monitor.to_prometheus()


@pytest.mark.parametrize("name", ["1st", "with-dash", "__own", "kind", "label", ""])
def test_labels_that_prometheus_would_refuse(monitor, name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        monitor.to_prometheus({name: "x"})


def test_the_summary_is_plain_json(monitor, rng):
    assert monitor.summary()["labelled_accuracy"] is None
    y, proba = draw(rng, 300, wrong=0.4)
    monitor.update(y, proba)
    summary = monitor.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["status"] == "alarm"
    assert summary["mean_confidence"] == pytest.approx(proba.max(axis=1).mean())
    shares = {entry["label"]: entry["share"] for entry in summary["predicted_labels"]}
    top = np.array(CLASSES)[proba.argmax(axis=1)]
    assert shares == pytest.approx({label: (top == label).mean() for label in CLASSES})
    assert summary["detectors"]["cusum"]["n_alarms"] == 1


def test_a_gap_that_is_there_from_the_start_is_warned_of(rng):
    with pytest.warns(UserWarning, match=r"600 reference rows is \+0\.1\d\d .* calibrate first"):
        CalibrationMonitor().fit(*draw(rng, 600, wrong=0.2))


def test_fit_begins_anew_and_clone_copies_parameters(monitor, rng):
    monitor.update(*draw(rng, 400, wrong=0.4), ids=None)
    monitor.update(None, draw(rng, 1)[1], ids=["x"])
    monitor.fit(*draw(rng, 300))
    assert (monitor.n_rows_, monitor.status, monitor.summary()["pending_rows"]) == (0, "calm", 0)
    with pytest.raises(NotFittedError):
        clone(monitor).update(None, draw(rng, 1)[1])
    resumed = CalibrationMonitor.from_json(monitor.to_json())
    assert resumed.average_run_length == clone(resumed).average_run_length == 10_000


ROW = [[0.5, 0.3, 0.2]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"proba": [0.5, 0.4]}, r"proba has one dimension.* a single row as \(1, 3\)"),
        ({"proba": [[0.5, 0.3, 0.3]]}, "every row of proba must sum to 1"),
        ({"proba": ROW, "y": ["d"]}, r"y holds 'd' in row 0.*\['a', 'b', 'c'\]"),
        ({"proba": ROW * 3, "y": [None, "a", "d"]}, "y holds 'd' in row 2"),
        ({"proba": ROW, "y": ["a", "b"]}, "y has 2 labels for 1 rows"),
        ({"proba": ROW, "ids": ["x", "y"]}, "ids must hold one id per row, 1 in all, got 2"),
        ({"proba": ROW, "ids": [1.5]}, "ids must be strings or integers, got 1.5"),
        ({"proba": ROW * 3, "ids": ["x", "y", "y"]}, "ids holds 'y' more than once"),
        ({"proba": ROW, "ids": ["old"]}, "ids holds 'old', which already waits for its label"),
        ({"proba": ROW, "y": ["a"], "sample_weight": [3]}, "sample_weight is 3 in row 0.*max_w"),
        (
            {"proba": ROW, "y": ["a"], "sample_weight": [0.5]},
            "in row 0, but the thresh.*all weigh 1",
        ),
        ({"proba": ROW, "fingerprint": 3}, "fingerprint must be a string, got 3"),
    ],
)
def test_bad_rows_are_refused_and_leave_no_trace(monitor, rows, message):
    monitor.update(None, ROW, ids=["old"])
    before = monitor.to_json()
    with pytest.raises(ValueError, match=message):
        monitor.update(**{"y": None} | rows)
    assert monitor.to_json() == before


def test_an_error_knows_parameter_row_and_value(monitor):
    monitor.update(None, ROW * 2, ids=["row 0", "row 1"])
    with pytest.raises(InvalidInput) as caught:
        monitor.add_labels(["row 1", "row 99"], ["a", "b"])
    error = caught.value
    assert (error.parameter, error.row, error.value) == ("ids", 1, "row 99")
    assert "first 'row 99'" in str(error)
    with pytest.raises(InvalidInput) as caught:
        monitor.update(["a", "b"], ROW * 2, [1.0, 0.5])
    assert (caught.value.parameter, caught.value.row, caught.value.value) == (
        "sample_weight",
        1,
        0.5,
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"ids": ["old"], "y": [None]}, "y has no label in row 0"),
        ({"ids": ["old"], "y": ["d"]}, "y holds 'd' in row 0"),
        ({"ids": ["old"], "y": "a"}, "y='a': must be a list"),
        ({"ids": ["old"], "y": ["a"], "unknown": "drop"}, "unknown must be 'raise' or 'ignore'"),
        ({"ids": ["old", "old"], "y": ["a", "a"]}, "more than once"),
    ],
)
def test_bad_labels_are_refused_and_leave_no_trace(monitor, labels, message):
    monitor.update(None, ROW, ids=["old"])
    before = monitor.to_json()
    with pytest.raises(ValueError, match=message):
        monitor.add_labels(**labels)
    assert monitor.to_json() == before


@pytest.mark.parametrize(
    ("parameters", "given", "message"),
    [
        ({"detectors": ["psi"]}, {}, "detectors must be among .* got 'psi'"),
        ({"tolerance": 0.1, "drift": 0.05}, {}, "drift must be above tolerance=0.1, got 0.05"),
        ({"tolerance": 0.3}, {}, "tolerance"),
        ({"average_run_length": 1}, {}, "average_run_length"),
        ({"kind": "d"}, {}, "kind must be 'top-label' or one of the classes"),
        ({"max_weight": 1}, {"sample_weight": [2, 1]}, "sample_weight is 2 in row 0"),
        ({}, {"classes": ["b", "a", "c"]}, "must be sorted"),
        ({}, {"classes": ["a", "b"]}, "classes lists 2 class.*proba describes 3"),
        ({}, {"y": ["a", "b"]}, r"y holds 2 class\(es\).*pass all of them as classes="),
        ({}, {"y": ["a", None], "classes": CLASSES}, "y has no label in row 1"),
        ({}, {"y": ["a", "d"], "classes": CLASSES}, "y holds 'd' in row 1"),
        ({}, {"y": ["a"]}, "y has 1 rows and proba has 2"),
        ({}, {"probes": [0.5, 0.5]}, "probes has one dimension"),
    ],
)
def test_bad_parameters_and_references_are_refused(parameters, given, message):
    with pytest.raises(ValueError, match=message):
        CalibrationMonitor(**parameters).fit(**{"y": None, "proba": ROW * 2} | given)


def test_only_the_detectors_asked_for_watch(rng):
    monitor = CalibrationMonitor(detectors=LABEL_FREE).fit(*draw(rng, 300))
    assert monitor.update(*draw(rng, 500, wrong=0.5)) == []
    assert set(monitor.summary()["detectors"]) == {*LABEL_FREE, "fingerprint", "probes"}
    assert monitor.summary()["labelled_accuracy"] < 0.6


def test_the_monitor_knows_nothing_of_language_models():
    source = Path(skllm_calib.operations.monitor.__file__).parent
    used = set()
    for path in source.glob("*.py"):
        used |= set(re.findall(r"from skllm_calib\.(\w+)", path.read_text(encoding="utf-8")))
    assert used == {"exceptions", "log_proba", "operations", "utils"}
