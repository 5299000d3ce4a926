"""monitor: rows and labels in, alarms and exit codes out, and a state that is never half taken."""

import json
import re

import numpy as np
import pytest

from skllm_calib.cli import main
from skllm_calib.cli import monitor as monitor_command
from skllm_calib.operations.monitor import CalibrationMonitor
from skllm_calib.utils.tables import Table, read_table, write_table

OURS = ["label", "probability", "proba_ham", "proba_spam", "failure"]


def rows_of(n, *, start=0, wrong=0.0, seed=0, failed=()):
    """Rows as `predict` writes them, with a column of true labels."""
    rng = np.random.default_rng([seed, start])
    rows = []
    for i, p in enumerate(rng.beta(0.8, 0.8, size=n).tolist()):
        truth = rng.random() < p
        truth ^= rng.random() < wrong
        row = {"id": start + i, "truth": "spam" if truth else "ham"}
        if i in failed:
            row["failure"] = "the text is empty"
        else:
            row |= {"label": "spam" if p >= 0.5 else "ham", "probability": max(p, 1 - p)}
            row |= {"proba_ham": 1 - p, "proba_spam": p}
        rows.append(row)
    return rows


def write(path, rows):
    write_table(Table(["id", "truth", *OURS], rows), path)
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command in a folder of its own, and return its code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(command, *argv):
        code = main(["monitor", command, "m.json", *map(str, argv)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def started(run, tmp_path):
    write(tmp_path / "held_out.csv", rows_of(300))
    assert run("start", "held_out.csv", "--label", "truth")[0] == 0
    return tmp_path / "m.json"


# start


def test_start_says_what_it_starts_from(run, tmp_path):
    rows = rows_of(300, failed=[4, 9])
    rows[7]["truth"] = None
    write(tmp_path / "held_out.csv", rows)
    code, out, err = run("start", "held_out.csv", "--label", "truth", "--fingerprint", "v1")
    assert code == 0
    reference = CalibrationMonitor.load("m.json").summary()["reference"]
    assert out == (
        f"Watching from 297 rows with a mean confidence of {reference['confidence']:.1%}, of which "
        f"{reference['accuracy']:.1%} are right. Kept in m.json\n"
    )
    assert err == "Left out 1 of 300 rows: they have no label.\nLeft out 2 rows that failed.\n"
    assert CalibrationMonitor.load("m.json").summary()["fingerprint"] == "v1"


def test_start_without_labels_and_with_parameters(run, tmp_path):
    write(tmp_path / "held_out.jsonl", rows_of(100))
    options = ["--tolerance", "0.02", "--drift", "0.1", "--detectors", "e_detector, confidences"]
    options += ["--average-run-length", "500", "--unlabelled-run-length", "600"]
    options += ["--max-weight", "20", "--max-pending", "7"]
    code, out, _ = run("start", "held_out.jsonl", *options)
    assert code == 0
    assert "right" not in out
    found = CalibrationMonitor.load("m.json")
    assert found.detectors == ["e_detector", "confidences"]
    assert (found.tolerance, found.drift, found.max_pending) == (0.02, 0.1, 7)
    assert (found.average_run_length, found.unlabelled_run_length) == (500, 600)
    assert found.max_weight_ == 20
    assert found.classes_.tolist() == ["ham", "spam"]


def test_a_state_is_not_overwritten_by_mistake(run, started):
    before = started.read_bytes()
    code, out, err = run("start", "held_out.csv")
    assert (code, out) == (1, "")
    assert err == (
        "skllm-calib: error: 'm.json' exists already: name another file, or pass --force to begin "
        "anew and lose what it has seen\n"
    )
    assert started.read_bytes() == before
    assert run("start", "held_out.csv", "--force")[0] == 0
    assert started.read_bytes() != before


def test_a_calibration_that_is_off_is_warned_of(run, tmp_path):
    write(tmp_path / "held_out.csv", rows_of(400, wrong=0.3))
    code, _, err = run("start", "held_out.csv", "--label", "truth")
    assert code == 0
    assert "skllm-calib: warning: mean confidence minus accuracy of the 400 reference rows" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "label"], "column 'label' holds the labels that the model gave"),
        (["--label", "kind"], "no column 'kind'"),
        (
            ["--label", "id"],
            "row 1 (line 2) has the label '0' in column 'id', which is not one of ham, s",
        ),
        (["--label", "failure"], "no row of 'held_out.csv' has a label in column 'failure'"),
        (["--weight", "truth"], "in column 'truth', where a number from zero on must be"),
        (
            ["--weight", "failure"],
            "row 1 (line 2) has no weight in column 'failure', where a number",
        ),
        (["--tolerance", "0.3"], "'tolerance' parameter of CalibrationMonitor must be"),
        (["--tolerance", "0.1"], "drift must be above tolerance=0.1, got 0.06"),
        (["--max-weight", "0.5"], "sample_weight is 1 in row 0, above the largest"),
    ],
)
def test_what_start_refuses(run, tmp_path, options, message):
    write(tmp_path / "held_out.csv", rows_of(20))
    code, out, err = run("start", "held_out.csv", *options)
    assert (code, out) == (1, "")
    assert err.startswith("skllm-calib: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "m.json").exists()


def test_detectors_that_do_not_exist(run, capsys):
    with pytest.raises(SystemExit) as stop:
        run("start", "held_out.csv", "--detectors", "cusum,ece")
    assert stop.value.code == 2
    assert "'ece' is not one of cusum, e_detector, confidences" in capsys.readouterr().err


# update


def test_calm_then_alarm_then_reset(run, started, tmp_path):
    write(tmp_path / "calm.csv", rows_of(300, start=1000, failed=[5]))
    code, out, err = run("update", "calm.csv", "--label", "truth")
    assert (code, out) == (0, "Status: calm. 299 rows and 299 labels so far.\n")
    assert err == "Left out 1 rows that failed.\n"

    write(tmp_path / "off.csv", rows_of(600, start=2000, wrong=0.3))
    code, out, err = run("update", "off.csv", "--label", "truth")
    assert (code, err) == (3, "")
    assert out.startswith("ALARM ")
    assert "The confidences are too high" in out
    assert out.endswith("Status: alarm. 899 rows and 899 labels so far.\n")
    assert CalibrationMonitor.load(started).status == "alarm"  # kept, whatever the code

    write(tmp_path / "more.csv", rows_of(10, start=3000))
    code, out, _ = run("update", "more.csv")
    assert code == 3  # until somebody takes note
    n = len(CalibrationMonitor.load(started).alarms_)
    assert "ALARM" not in out
    assert f"Status: alarm, 0 new and {n} earlier ('monitor status' shows them" in out

    code, out, _ = run("reset")
    assert (code, out) == (0, f"Acknowledged {n} alarm(s). Status: calm\n")
    assert run("status")[0] == 0
    assert run("update", "calm.csv")[0] == 0


def test_labels_only_where_they_are_known(run, started, tmp_path):
    rows = rows_of(10, start=1000)
    for row in rows[3:]:
        row["truth"] = None
    write(tmp_path / "some.parquet", rows)
    code, out, _ = run("update", "some.parquet", "--id", "id", "--label", "truth")
    assert (code, out) == (0, "Status: calm. 10 rows and 3 labels so far.\n")
    assert CalibrationMonitor.load(started).summary()["pending_rows"] == 7


def test_another_model_is_seen_by_its_fingerprint(run, tmp_path):
    write(tmp_path / "held_out.csv", rows_of(100))
    run("start", "held_out.csv", "--fingerprint", "v1")
    assert run("update", "held_out.csv", "--fingerprint", "v1")[0] == 0
    code, out, _ = run("update", "held_out.csv", "--fingerprint", "v2")
    assert code == 3
    assert out.startswith("ALARM fingerprint, row 99: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "label"], "column 'label' holds the labels that the model gave"),
        (["--id", "truth"], "have the same id 'spam' in column 'truth', which must identify"),
        (["--id", "failure"], "row 1 (line 2) has no id in column 'failure'"),
        (
            ["--weight", "id"],
            "row 1 (line 2) has the weight 1000 in column 'id', above the largest",
        ),
    ],
)
def test_a_failed_update_leaves_the_old_state(run, started, tmp_path, options, message):
    rows = rows_of(10, start=1000)
    write(tmp_path / "new.csv", rows)
    before = started.read_bytes()
    code, out, err = run("update", "new.csv", *options)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert started.read_bytes() == before


def test_the_same_rows_twice_are_noticed_by_their_ids(run, started, tmp_path):
    write(tmp_path / "new.csv", rows_of(10, start=1000))
    assert run("update", "new.csv", "--id", "id")[0] == 0
    before = started.read_bytes()
    code, _, err = run("update", "new.csv", "--id", "id")
    assert code == 1
    assert "holds '1000', which already waits for its label" in err
    assert started.read_bytes() == before


def test_a_row_number_in_an_error_is_that_of_the_file(run, started, tmp_path):
    rows = rows_of(10, start=1000, failed=[0, 1, 2])
    table = Table(["id", "truth", *OURS, "w"], [{**row, "w": 1} for row in rows])
    table.rows[5]["w"] = 4
    write_table(table, tmp_path / "new.csv")
    err = run("update", "new.csv", "--weight", "w")[2]
    assert "row 6 (line 7) has the weight 4 in column 'w', above the largest" in err
    table.rows[5]["w"] = -1
    write_table(table, tmp_path / "new.csv")
    err = run("update", "new.csv", "--weight", "w")[2]
    assert "row 6 (line 7) has the weight '-1' in column 'w', where a number from zero on" in err


def test_rows_of_another_classifier(run, started, tmp_path):
    (tmp_path / "eggs.csv").write_text("proba_eggs,proba_ham\n0.5,0.5\n")
    code, _, err = run("update", "eggs.csv")
    assert code == 1
    assert "probabilities of eggs, ham, but the monitor at" in err
    assert "is about ham, spam: make another one for them" in err
    (tmp_path / "failed.csv").write_text("proba_ham,proba_spam,failure\n,,down\n")
    assert "no row of 'failed.csv' has probabilities" in run("update", "failed.csv")[2]


def test_a_monitor_of_integers_made_in_python(run, tmp_path):
    p = np.random.default_rng(0).beta(3, 1, size=100)
    CalibrationMonitor().fit(None, p, classes=[2, 10]).save(tmp_path / "m.json")
    (tmp_path / "n.csv").write_text("id,proba_10,proba_2,true\n7,0.9,0.1,10\n8,0.9,0.1,\n")
    assert run("update", "n.csv", "--id", "id", "--label", "true")[0] == 0
    (tmp_path / "late.csv").write_text("id,true\n8,2\n")
    assert run("labels", "late.csv", "--id", "id", "--label", "true")[0] == 0
    found = CalibrationMonitor.load(tmp_path / "m.json").summary()
    assert (found["labels"], found["labelled_accuracy"]) == (2, 0.5)
    assert found["mean_confidence"] == pytest.approx(0.9)


# labels


@pytest.mark.parametrize(
    ("given", "late"), [("parquet", "csv"), ("csv", "parquet"), ("jsonl",) * 2]
)
def test_labels_find_their_rows_across_formats(run, started, tmp_path, given, late):
    rows = rows_of(20, start=1000)
    write(tmp_path / f"new.{given}", rows)
    assert run("update", f"new.{given}", "--id", "id")[0] == 0
    some = [{"id": row["id"], "truth": row["truth"]} for row in rows[:5]]
    some.append({"id": 1010, "truth": None})
    write_table(Table(["id", "truth"], some), tmp_path / f"late.{late}")
    code, out, err = run("labels", f"late.{late}", "--id", "id", "--label", "truth")
    assert (code, out, err) == (0, "Status: calm. 20 rows and 5 labels so far.\n", "")


def test_labels_of_unknown_ids(run, started, tmp_path):
    write(tmp_path / "new.csv", rows_of(20, start=1000))
    run("update", "new.csv", "--id", "id")
    (tmp_path / "late.csv").write_text("id,truth\n1000,ham\n7,spam\n1001,spam\n")
    before = started.read_bytes()
    argv = ["labels", "late.csv", "--id", "id", "--label", "truth"]
    code, _, err = run(*argv)
    assert code == 1
    assert "1 id(s) do not wait for a label, first '7': never given to update" in err
    assert "(here: --id, --ignore-unknown)" in err
    assert err.startswith("skllm-calib: error: row 2 (line 3): 1 id(s)")
    assert started.read_bytes() == before
    code, out, err = run(*argv, "--ignore-unknown")
    assert (code, out) == (0, "Status: calm. 20 rows and 2 labels so far.\n")
    assert err == "Skipped 1 of 3 labels.\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "id,truth\n1000,hamm\n",
            "row 1 (line 2) has the label 'hamm' in column 'truth', which is not one",
        ),
        (
            "id,truth\n1000,ham\n1000,ham\n",
            "row 1 (line 2) and row 2 (line 3) have the same id '1000'",
        ),
        ("id,truth\n,ham\n", "row 1 (line 2) has no id"),
        ("id,truth\n1000,\n", "no row of 'late.csv' has a label in column 'truth'"),
        ("id,label\n1000,ham\n", "no column 'truth'"),
    ],
)
def test_labels_that_cannot_be_used(run, started, tmp_path, content, message):
    write(tmp_path / "new.csv", rows_of(5, start=1000))
    run("update", "new.csv", "--id", "id")
    (tmp_path / "late.csv").write_text(content)
    before = started.read_bytes()
    code, _, err = run("labels", "late.csv", "--id", "id", "--label", "truth")
    assert code == 1
    assert message in err
    assert started.read_bytes() == before


def test_late_labels_raise_the_alarm(run, started, tmp_path):
    write(tmp_path / "off.csv", rows_of(600, start=2000, wrong=0.3))
    assert run("update", "off.csv", "--id", "id")[0] == 0
    code, out, _ = run("labels", "off.csv", "--id", "id", "--label", "truth")
    assert code == 3
    assert out.startswith("ALARM ")


def test_labels_of_the_review_queue_with_their_weights(run, tmp_path):
    """What people said of a sample, weighted by the chance of being asked, as in the docs."""
    rows = rows_of(200, start=1000)
    write(tmp_path / "held_out.csv", rows_of(300))
    for row in rows:
        row["action"] = "accept" if row["probability"] > 0.9 else "review"
        row["text"] = f"text {row['id']}"
    write_table(Table(["id", "text", *OURS, "action"], rows), tmp_path / "decided.csv")
    assert main(["queue", "add", "q.db", "decided.csv", "--text", "text", "--audit-share=.5"]) == 0
    assert main(["queue", "hand-out", "q.db", "ann.csv"]) == 0
    truth = {str(row["id"]): row["truth"] for row in rows}
    table = read_table("ann.csv")
    for row in table.rows:
        row["label"] = truth[row["id"]]
    write_table(table, "ann.csv")
    assert main(["queue", "take-in", "q.db", "ann.csv", "--reviewer", "Ann"]) == 0
    assert main(["queue", "export", "q.db", "labels.csv"]) == 0

    run("start", "held_out.csv", "--max-weight", 2)
    assert run("update", "decided.csv", "--id", "id")[0] == 0
    labels = ["labels", "labels.csv", "--id", "id", "--label", "label", "--weight", "weight"]
    code, _, err = run(*labels)
    assert code == 1
    assert "the thresholds of 'cusum' are for rows that all weigh 1, as in fit" in err
    assert "leave 'cusum' out of detectors" in err

    run("start", "held_out.csv", "--max-weight", 2, "--detectors", "e_detector", "--force")
    assert run("update", "decided.csv", "--id", "id")[0] == 0
    assert run(*labels)[0] == 0
    found = CalibrationMonitor.load("m.json").summary()
    exported = read_table("labels.csv").rows
    assert found["labels"] == len(exported)
    weights = np.array([float(row["weight"]) for row in exported])
    right = [
        max(("ham", "spam"), key=lambda k: row[f"proba_{k}"]) == row["label"] for row in exported
    ]
    assert found["labelled_accuracy"] == pytest.approx(np.average(right, weights=weights))


# status


def test_status_for_people(run, started, tmp_path):
    code, out, err = run("status")
    assert (code, err) == (0, "")
    assert out.startswith("Status: calm\n\n  rows                        0\n")
    assert re.search(r"mean confidence +- +\d\d\.\d%\n", out)
    off = write(tmp_path / "off.csv", rows_of(600, start=2000, wrong=0.3))
    table = read_table(off)
    run("start", "held_out.csv", "--max-pending", "50", "--force")
    run("update", off, "--id", "id")
    run("labels", off, "--id", "id", "--label", "truth", "--ignore-unknown")
    write_table(Table(table.columns, table.rows[:500]), off)
    run("update", off, "--label", "truth")
    code, out, _ = run("status")
    assert code == 3
    assert out.startswith("Status: alarm\n\n")
    assert "rows that wait for a label      0   550 more were dropped\n" in out
    assert out.count("\n\nALARM ") == len(CalibrationMonitor.load(started).alarms_) > 0
    assert " 10,000.00   ALARM\n" in out


def test_status_for_programs(run, started, tmp_path):
    code, out, err = run("status", "--json", "-")
    assert (code, err) == (0, "")
    summary = CalibrationMonitor.load(started).summary()
    assert json.loads(out) == summary

    options = ["--prometheus-label", "model=customs", "--prometheus-label", "site=a=b"]
    code, out, _ = run("status", "--prometheus", "-", *options)
    assert out.startswith("# HELP skllm_calib_monitor_rows_total")
    assert 'skllm_calib_monitor_rows_total{model="customs",site="a=b"} 0.0\n' in out

    code, shown, err = run("status", "--json", "s.json", "--prometheus", "s.prom", *options)
    assert shown.startswith("Status: calm")
    assert err == "Wrote s.json\nWrote s.prom\n"
    assert json.loads((tmp_path / "s.json").read_text()) == summary
    assert (tmp_path / "s.prom").read_text() == out

    code, out, err = run("status", "--json", "-", "--prometheus", "-")
    assert (code, out) == (1, "")
    assert "--json and --prometheus cannot both go to '-'" in err


def test_a_label_for_prometheus_that_is_none(run, started, capsys):
    with pytest.raises(SystemExit) as stop:
        run("status", "--prometheus", "-", "--prometheus-label", "customs")
    assert stop.value.code == 2
    assert "'customs' is not of the form NAME=VALUE" in capsys.readouterr().err


# The state


@pytest.mark.parametrize(
    "command",
    [["update", "f.csv"], ["labels", "f.csv", "--id", "a", "--label", "b"], ["status"], ["reset"]],
)
def test_a_monitor_that_does_not_exist(run, tmp_path, command):
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert err == (
        "skllm-calib: error: there is no monitor at 'm.json': 'monitor start' makes one\n"
    )
    assert list(tmp_path.glob("m.json*")) == []


def test_a_file_that_is_no_monitor(run, started):
    state = json.loads(started.read_text())
    for content, message in (
        ("id,label\n", "'m.json' cannot be used as a CalibrationMonitor: not the JSON"),
        ("{}", "'m.json' cannot be used as a CalibrationMonitor: not the state"),
        (json.dumps(state | {"version": 99}), "update the package"),
        (json.dumps(state | {"state": {}}), "the state of a CalibrationMonitor, but damaged"),
    ):
        started.write_text(content)
        code, _, err = run("status")
        assert code == 1
        assert message in err
        assert err.count("\n") == 1
        assert started.read_text() == content


def test_two_commands_at_once_lose_nothing(run, started, tmp_path, monkeypatch):
    write(tmp_path / "new.csv", rows_of(10, start=1000))
    write(tmp_path / "other.csv", rows_of(20, start=2000))
    late = monitor_command._rows

    def overtaken(*args, **options):
        monkeypatch.setattr(monitor_command, "_rows", late)
        assert main(["monitor", "update", "m.json", "other.csv"]) == 0
        return late(*args, **options)

    monkeypatch.setattr(monitor_command, "_rows", overtaken)
    code, _, err = run("update", "new.csv")
    assert (code, err) == (0, "")
    assert CalibrationMonitor.load(started).n_rows_ == 30  # those of both


def test_the_help_tells_the_exit_code(capsys):
    with pytest.raises(SystemExit):
        main(["monitor", "--help"])
    assert "is 3 while there is an alarm" in " ".join(capsys.readouterr().out.split())
