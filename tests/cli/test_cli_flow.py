"""The commands in a row, as a user runs them: each reads what the one before has written."""

import csv
import json
import random

import pytest

from skllm_calib.backends import PROVIDERS, TestingBackend
from skllm_calib.cli import main
from skllm_calib.operations.queue import ReviewQueue
from skllm_calib.utils.tables import read_table

pytest.importorskip("matplotlib")


@pytest.fixture
def office(tmp_path, monkeypatch):
    """Write labelled goods and a day's goods, and a model that is right four times in five."""
    rng = random.Random(0)
    rules = {}
    files = {}
    for name, n in (("labelled", 400), ("day", 150)):
        files[name] = tmp_path / f"{name}.csv"
        with open(files[name], "w", encoding="utf-8", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(["id", "goods", "section"])
            for i in range(n):
                p = 1 - 0.5 * rng.random() ** 3
                said, other = rng.sample(["shirts", "shoes"], 2)
                truth = said if rng.random() < p else other
                text = f"{name} goods number {i}."
                rules[text] = {said: p**2 / (p**2 + (1 - p) ** 2), other: 0.0}
                rules[text][other] = 1 - rules[text][said]
                writer.writerow([f"{name}-{i}", text, truth])
    monkeypatch.setitem(PROVIDERS, "testing", lambda name: TestingBackend(rules, name=name))
    return files


def run(*argv):
    """Run a command without remarks; return its exit code."""
    return main([str(part) for part in argv] + ["--quiet"])


def test_from_labels_to_the_monitor(office, tmp_path, capsys):
    labelled, day = office["labelled"], office["day"]
    clf, decided = tmp_path / "customs", tmp_path / "decided.csv"
    of_labelled = ["--text", "goods", "--label", "section"]
    calibrate = ["--model", "testing:flow", "--answer", "words", "--out", clf]
    assert run("calibrate", labelled, *of_labelled, *calibrate) == 0

    # Certify a zone and decide about the day's goods, of which nobody has a label yet.
    target = ["--labelled", labelled, "--label", "section", "--target-precision", "0.8"]
    assert (
        run("decide", day, "--text", "goods", "--classifier", clf, *target, "--out", decided) == 0
    )
    assert "Promise: accepted rows are right at least 80%" in capsys.readouterr().out
    rows = read_table(decided).rows
    accepted = [row for row in rows if row["action"] == "accept"]
    assert 20 < len(accepted) < 150
    assert sum(row["label"] == row["section"] for row in accepted) / len(accepted) > 0.8

    report, figures = tmp_path / "report.html", tmp_path / "report.json"
    where = ["--classifier", clf, "--out", report, "--json", figures]
    assert run("report", day, *of_labelled, *where) == 0
    policy = json.loads(figures.read_text())["policy"]
    assert policy["n_by_action"]["accept"] == len(accepted)
    assert not policy["saw_these_rows"]
    assert policy["precision_lower_bound"] > 0.7

    # People review what was not accepted, and a part of what was.
    queue = tmp_path / "review.sqlite"
    assert run("queue", "add", queue, decided, "--text", "goods", "--audit-share", "0.5") == 0
    waiting = ReviewQueue(queue).waiting()
    assert 150 - len(accepted) < len(waiting) < 150
    answers = tmp_path / "ann.csv"
    assert run("queue", "hand-out", queue, answers) == 0
    table = read_table(answers)
    truth = {row["id"]: row["section"] for row in rows}
    with open(answers, "w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, table.columns)
        writer.writeheader()
        writer.writerows({**row, "label": truth[row["id"]]} for row in table.rows)
    assert run("queue", "take-in", queue, answers, "--reviewer", "Ann") == 0
    capsys.readouterr()
    assert run("queue", "status", queue) == 0
    assert "accepted rows are wrong, between" in " ".join(capsys.readouterr().out.split())

    # What they said calibrates anew, each row with its weight.
    export, anew = tmp_path / "export.csv", tmp_path / "anew"
    assert run("queue", "export", queue, export) == 0
    assert {"id", "text", "label", "weight"} <= set(read_table(export).columns)
    again = ["--text", "text", "--label", "label", "--weight", "weight", "--n-rows", "all"]
    assert run("calibrate", export, *again, *calibrate[:-1], anew) == 0
    assert json.loads((anew / "card.json").read_text())["n"] == len(waiting)

    # And the monitor has nothing to say, as nothing has changed.
    state, reference = tmp_path / "watch.json", tmp_path / "reference.csv"
    predict = ["--text", "goods", "--classifier", clf, "--out", reference]
    assert run("predict", labelled, *predict) == 0
    assert run("monitor", "start", state, reference, "--label", "section") == 0
    assert run("monitor", "update", state, decided, "--id", "id") == 0
    assert run("monitor", "labels", state, decided, "--id", "id", "--label", "section") == 0
    assert run("monitor", "status", state) == 0


def test_a_policy_of_another_calibration_is_refused(office, tmp_path, capsys):
    clf = tmp_path / "customs"
    of_labelled = ["--text", "goods", "--label", "section"]
    calibrate = ["--model", "testing:flow", "--answer", "words", "--out", clf]
    assert run("calibrate", office["labelled"], *of_labelled, *calibrate) == 0
    budget = ["--labelled", office["labelled"], "--label", "section", "--max-reviews", "0.3"]
    assert run("decide", "--text", "goods", "--classifier", clf, *budget) == 0
    assert run("calibrate", office["labelled"], *of_labelled, *calibrate, "--n-rows", "150") == 0
    capsys.readouterr()
    report = ["report", office["day"], *of_labelled, "--classifier", clf]
    assert run(*report, "--out", tmp_path / "r.html") == 1
    assert "was made for another calibration" in capsys.readouterr().err
