"""queue: rows of a file in, labels back, and what is said to those who err."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from urllib.parse import urlencode

import pytest

from skllm_calib.cli import main
from skllm_calib.operations.queue import QueueServer, ReviewQueue
from skllm_calib.utils.tables import Table, read_table, write_table

OURS = ["label", "probability", "proba_ham", "proba_spam", "failure", "action", "reason"]


def decided(path, n=20, *, failed=(), prefix="m", **more):
    """Write rows as `decide` does: every second one is accepted."""
    rows = []
    for i in range(n):
        row = {"id": f"{prefix}{i}", "message": f"message {i}", "price": i}
        p = 0.99 - i / (4 * n) if i % 2 else 0.5 + i / (4 * n)
        if i in failed:
            row |= {"failure": "the server was down", "action": "review"}
        else:
            row |= {
                "label": "spam" if i % 4 < 2 else "ham",
                "probability": p,
                "proba_ham": 1 - p if i % 4 < 2 else p,
                "proba_spam": p if i % 4 < 2 else 1 - p,
                "action": "accept" if i % 2 else "review",
                "reason": f"{p:.2f} against 0.80",
            }
        rows.append(row | more)
    write_table(Table(["id", "message", "price", *OURS], rows), path)
    return str(path)


@pytest.fixture
def queue_file(tmp_path):
    return tmp_path / "deep" / "q.sqlite"


@pytest.fixture
def run(queue_file, capsys):
    """Run a command on the queue, and return its code, output and errors."""

    def run(command, *argv):
        code = main(["queue", command, str(queue_file), *map(str, argv)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def filled(run, queue_file, tmp_path):
    argv = [decided(tmp_path / "rows.csv", failed=[4]), "--text", "message", "--audit-share", "1"]
    assert run("add", *argv)[0] == 0
    return ReviewQueue(queue_file)


# add


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_rows_go_in_as_they_were_decided(run, queue_file, tmp_path, extension):
    file = decided(tmp_path / f"rows.{extension}", failed=[4])
    argv = ["add", file, "--text", "message", "--evidence", "price", "--audit-share", "0"]
    code, out, err = run(*argv)
    assert (code, err) == (0, "")
    assert out == ("20 new rows, 10 of them for a person; 0 were there already, 0 were replaced\n")
    queue = ReviewQueue(queue_file)
    assert queue.classes.tolist() == ["ham", "spam"]
    assert queue.audit_share == 0
    waiting = {row["id"]: row for row in queue.waiting()}
    assert set(waiting) == {f"m{i}" for i in range(0, 20, 2)}
    assert waiting["m2"] == {
        "id": "m2",
        "text": "message 2",
        "label": "ham",
        "proba": {"ham": 0.525, "spam": 0.475},
        "action": "review",
        "evidence": {"price": "2"},
        "reason": "0.53 against 0.80",
        "audit": False,
    }
    assert waiting["m4"]["proba"] is None
    assert waiting["m4"]["label"] is None
    assert waiting["m4"]["reason"] == "the model failed: the server was down"
    assert run(*argv)[1].startswith("0 new rows, 0 of them for a person; 20 were there already")


def test_what_predict_wrote_goes_in(rows_csv, calibrated_dir, tmp_path, run, queue_file, capsys):
    rows = read_table(rows_csv)
    rows.columns[2] = "label"  # so that predict has to rename its own
    rows.rows[0]["message"] = ""
    for row in rows.rows:
        row["label"] = row.pop("kind")
    write_table(rows, rows_csv)
    predict = ["predict", str(rows_csv), "--text", "message", "--classifier", str(calibrated_dir)]
    out = tmp_path / "o.csv"
    assert main([*predict, "--out", str(out)]) == 0
    code, _, err = run("add", out, "--text", "message")
    assert code == 1
    assert "no column 'action'" in err
    assert "'predict --threshold T', or pass --review-all" in err
    assert not queue_file.exists()
    code, said, err = run("add", out, "--text", "message", "--review-all")
    assert said.startswith("119 new rows, 119 of them for a person")
    assert "Left out 1 of 120 rows: they have no text." in err
    proposed = {row["id"]: row["label"] for row in ReviewQueue(queue_file).waiting()}
    table = read_table(out)
    assert proposed == {row["id"]: row["predicted_label"] for row in table.rows[1:]}


def test_ids_that_are_named_numbered_or_missing(run, queue_file, tmp_path):
    file = decided(tmp_path / "rows.csv", 4)
    table = read_table(file)
    without = Table([c for c in table.columns if c != "id"], table.rows)
    write_table(without, file)
    code, _, err = run("add", file, "--text", "message")
    assert code == 1
    assert "no column 'id'" in err
    assert "--id COL" in err
    assert "--number-rows PREFIX" in err
    assert run("add", file, "--text", "message", "--number-rows", "may")[0] == 0
    assert run("add", file, "--text", "message", "--number-rows", "june")[0] == 0
    assert run("add", file, "--text", "message", "--id", "price")[0] == 0
    ids = {row["id"] for row in ReviewQueue(queue_file).waiting()}
    assert {"may-1", "may-3", "june-1", "june-3", "0", "2"} <= ids
    # The same prefix for another file is found out.
    other = decided(tmp_path / "other.csv", 4, message="another")
    code, _, err = run("add", other, "--text", "message", "--number-rows", "may")
    assert code == 1
    assert "id 'may-1' is in the queue with another text" in err
    assert "--replace)" in err
    argv = ["--text", "message", "--number-rows", "may", "--replace"]
    assert "4 were replaced" in run("add", other, *argv)[1]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, ["--text", "txt"], "no column 'txt': the columns are 'id', 'message'"),
        (
            {},
            ["--id", "reason"],
            "row 2 (line 3) and row 4 (line 5) have the same id 'x' in column 'reason'",
        ),
        ({}, ["--evidence", "prize"], "no column 'prize'"),
        ({}, ["--take-as", "pass", "ok"], "--take-as pass ok: it must be one of accept, review"),
        ({"id": ""}, [], "row 1 (line 2) has no id in column 'id'"),
        ({"id": "a\tb"}, [], "row 1 (line 2), id 'a\\tb': id must be a printable text"),
        ({"message": " "}, [], "no row of"),
        (
            {"action": "pass"},
            [],
            "row 1 (line 2) has 'pass' in column 'action': it must be one of accept",
        ),
        ({"action": None}, [], "row 1 (line 2) has '' in column 'action'"),
        ({"label": "eggs"}, [], "row 1 (line 2), id 'm0': label 'eggs' is not one of the classes"),
        ({"proba_ham": 3}, [], "row 1 (line 2) has 3 in column 'proba_ham'"),
    ],
)
def test_a_file_that_cannot_be_used_makes_no_queue(
    run, queue_file, tmp_path, change, options, message
):
    file = tmp_path / "rows.csv"
    decided(file, 4)
    table = read_table(file)
    for i, row in enumerate(table.rows):
        row["reason"] = "x" if i % 2 else str(i)
        row.update(change if not i or "message" in change else {})
    write_table(table, file)
    code, out, err = run("add", file, "--text", "message", *options)
    assert (code, out) == (1, "")
    assert err.startswith("skllm-calib: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not queue_file.exists()


def test_actions_of_your_own(run, queue_file, tmp_path):
    file = tmp_path / "rows.csv"
    decided(file, 4, action="escalate")
    code, _, err = run("add", file, "--text", "message")
    assert code == 1
    assert "or be explained with --take-as" in err
    argv = ["--text", "message", "--take-as", "pass", "accept", "--take-as", "escalate", "review"]
    assert run("add", file, *argv)[1].startswith("4 new rows, 4 of them for a person")


@pytest.mark.parametrize("share", ["2", "-0.1", "nan", "x"])
def test_a_share_that_is_none(run, tmp_path, share, capsys):
    with pytest.raises(SystemExit) as stop:
        run("add", decided(tmp_path / "r.csv"), "--text", "message", f"--audit-share={share}")
    assert stop.value.code == 2
    assert f"'{share}' is not a number from 0 to 1" in capsys.readouterr().err


def test_a_queue_is_for_its_labels(run, filled, tmp_path):
    file = tmp_path / "eggs.csv"
    file.write_text("id,message,proba_eggs,proba_ham,action\n1,x,0.5,0.5,review\n")
    code, _, err = run("add", file, "--text", "message")
    assert code == 1
    assert "probabilities of eggs, ham, but the queue at" in err
    assert "is about ham, spam: make another one for them" in err


def test_a_queue_of_integers(run, queue_file, tmp_path):
    ReviewQueue(queue_file, classes=[2, 10])
    file = tmp_path / "n.csv"
    file.write_text("id,message,proba_10,proba_2,label,action\n1,x,0.9,0.1,10,review\n")
    assert run("add", file, "--text", "message")[0] == 0
    (row,) = ReviewQueue(queue_file).waiting()
    assert row["proba"] == {10: 0.9, 2: 0.1}
    assert row["label"] == 10
    assert run("label", "1", "2", "--reviewer", "Ann")[0] == 0
    out = tmp_path / "out.csv"
    assert run("export", out)[0] == 0
    assert out.read_text() == "id,text,label,weight,proba_2,proba_10\n1,x,2,1.0,0.1,0.9\n"


# A queue that is none


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("status", []),
        ("serve", []),
        ("hand-out", ["o.csv"]),
        ("take-in", ["i.csv"]),
        ("label", ["1", "ham", "--reviewer", "Ann"]),
        ("undo", ["--reviewer", "Ann"]),
        ("export", ["o.csv"]),
    ],
)
def test_a_queue_that_does_not_exist_is_not_made(run, queue_file, command, argv):
    code, out, err = run(command, *argv)
    assert (code, out) == (1, "")
    assert err == (
        f"skllm-calib: error: there is no queue at {str(queue_file)!r}: 'skllm-calib queue add' "
        "makes one\n"
    )
    assert not queue_file.parent.exists()


def test_another_file_is_no_queue_and_stays_as_it_is(run, queue_file, tmp_path):
    queue_file.parent.mkdir()
    file = decided(tmp_path / "rows.csv")
    queue_file.write_text("id,text\n")
    for command in (["status"], ["add", file, "--text", "message"]):
        code, _, err = run(*command)
        assert code == 1
        assert "cannot be used as a review queue" in err
    assert queue_file.read_text() == "id,text\n"
    queue_file.write_text("")
    assert "is empty: add rows with 'skllm-calib queue add'" in run("status")[2]
    assert run("add", file, "--text", "message")[0] == 0  # an empty file may become one


def test_a_command_is_needed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["queue"])
    assert stop.value.code == 2
    out = capsys.readouterr().out
    assert "Usage: skllm-calib queue" in out
    assert "hand-out" in out


# Labels by file


@pytest.mark.parametrize("extension", ["csv", "jsonl", "csv.gz", "json", "parquet", "xlsx"])
def test_rows_are_handed_out_and_taken_in(run, filled, tmp_path, extension):
    file = tmp_path / "for" / f"ann.{extension}"
    code, out, _ = run("hand-out", file, "--n", "5", "--order", "added")
    assert code == 0
    assert out == f"Wrote 5 rows to {file}; the column 'label' takes one of ham, spam\n"
    rows = read_table(file).rows
    assert [row["id"] for row in rows] == ["m0", "m1", "m2", "m3", "m4"]
    for row, label in zip(rows, ["ham", "spam", "ham", "", ""], strict=True):
        row["label"] = label
    write_table(Table(list(rows[0]), rows), file)
    code, out, _ = run("take-in", file, "--reviewer", "Ann")
    assert (code, out) == (0, "3 new labels; 17 rows wait\n")
    assert run("take-in", file, "--reviewer", "Ann")[1] == "0 new labels; 17 rows wait\n"
    said = {(one["id"], one["label"], one["reviewer"]) for one in filled.labels()}
    assert said == {("m0", "ham", "Ann"), ("m1", "spam", "Ann"), ("m2", "ham", "Ann")}


def test_the_work_of_a_reviewer_is_not_overwritten(run, filled, tmp_path):
    file = tmp_path / "ann.csv"
    file.write_text("an hour of work")
    code, _, err = run("hand-out", file)
    assert code == 1
    assert "exists already, and may hold labels: name another file, or pass --force" in err
    assert file.read_text() == "an hour of work"
    assert run("hand-out", file, "--force")[0] == 0
    assert len(read_table(file).rows) == 20


def test_nothing_to_hand_out(run, filled, tmp_path):
    for row in filled.waiting():
        filled.add_label(row["id"], "ham", reviewer="Ann")
    code, out, err = run("hand-out", tmp_path / "o.csv")
    assert (code, out, err) == (0, "", "No row waits for a person: nothing was written.\n")
    assert not (tmp_path / "o.csv").exists()


def test_a_format_that_nobody_knows(run, filled, tmp_path):
    code, _, err = run("hand-out", tmp_path / "o.docx")
    assert code == 1
    assert "those that work are .csv" in err


def test_bad_lines_are_listed_and_the_others_kept(run, filled, tmp_path):
    file = tmp_path / "ann.csv"
    file.write_text(
        "id,label,reviewer\nm0,ham,Ann\nm1,hamm,Ann\nm2,ham,\nmm,ham,Ann\nm3,,\nm6,spam,Ann\n"
    )
    code, out, err = run("take-in", file)
    assert (code, out) == (1, "")
    assert err == (
        f"skllm-calib: error: 3 row(s) of {file} cannot be used:\n"
        "  row 2 (line 3): label 'hamm' is not one of the classes ['ham', 'spam']\n"
        "  row 3 (line 4): no reviewer: fill in the column 'reviewer', or pass --reviewer NAME\n"
        "  row 4 (line 5): id 'mm' is not in the queue\n"
        "2 other label(s) are kept. Correct the file and take it in again.\n"
    )
    assert [one["id"] for one in filled.labels()] == ["m0", "m6"]
    with pytest.raises(ValueError, match=r"3 bad line\(s\)"):
        run("take-in", file, "--debug")


def test_a_long_list_of_bad_lines_is_cut(run, filled, tmp_path):
    file = tmp_path / "ann.jsonl"
    file.write_text('{"id": "no", "label": "ham", "reviewer": "Ann"}\n' * 25)
    code, _, err = run("take-in", file)
    assert code == 1
    assert err.count("\n  row ") == 20
    assert "  ... and 5 more\n0 other label(s) are kept" in err


def test_a_file_that_is_missing(run, filled):
    code, _, err = run("take-in", "nowhere.csv")
    assert (code, err) == (1, "skllm-calib: error: nowhere.csv: No such file or directory\n")


# One label, and back


def test_label_dispute_and_undo(run, filled):
    assert run("label", "m0", "ham", "--reviewer", "Ann") == (0, "m0 is ham, says Ann\n", "")
    assert run("label", "m0", "ham", "--reviewer", "Ann")[1] == "m0 is ham, says Ann, as before\n"
    run("label", "m0", "spam", "--reviewer", "Bob")
    out = run("status")[1]
    assert re.search(r"disputed +1\n", out)
    assert "\n  m0: Ann says ham, Bob says spam\n" in out
    assert run("undo", "--reviewer", "Bob") == (0, "Took back that m0 is spam\n", "")
    code, _, err = run("undo", "--reviewer", "Bob")
    assert code == 1
    assert "there is no label of 'Bob' to take back" in err
    run("label", "m0", "spam", "--reviewer", "Bob", "--final")
    assert filled.disputed() == []
    assert filled.export().y.tolist() == ["spam"]
    code, _, err = run("label", "m0", "eggs", "--reviewer", "Bob")
    assert code == 1
    assert "label 'eggs' is not one of the classes ['ham', 'spam']" in err
    assert "id 'm99' is not in the queue" in run("label", "m99", "ham", "--reviewer", "Bob")[2]


# status


def test_status_of_a_new_queue(run, filled):
    code, out, _ = run("status")
    assert code == 0
    assert "  rows      20   10 accepted, 10 to review, 0 rejected\n" in out
    assert "  waiting   20   10 of them accepted, for the audit (100% of new ones)\n" in out
    assert "proposed" not in out
    assert "Nothing is known about the 10 accepted rows" in out


def test_status_when_there_are_labels(run, filled, tmp_path):
    for i in range(20):
        filled.add_label(f"m{i}", "spam" if i % 4 < 2 or i == 2 else "ham", reviewer="Ann")
    out = run("status")[1]
    assert re.search(r"done +20   95% left as proposed", out)
    assert re.search(r"proposed +done +left as proposed\n  ham +10 +9\n  spam +9 +9\n", out)
    assert "0.00% of 10 accepted rows are wrong, between 0.00% and" in out
    file = tmp_path / "s.json"
    code, shown, err = run("status", "--json", file)
    assert (code, shown) == (0, out)
    assert f"All figures: {file}" in err
    figures = json.loads(file.read_text())
    assert figures["by_class"][0] == {"label": "ham", "n_done": 10, "n_left_as_proposed": 9}
    assert figures["agreement"] == pytest.approx(18 / 19)
    assert figures["accepted_error"]["n_audited"] == 10
    assert json.loads(run("status", "--json", "-")[1]) == figures


def test_status_as_json_has_no_nan_and_names_the_disputed(run, filled):
    filled.add_label("m0", "ham", reviewer="Ann")
    filled.add_label("m0", "spam", reviewer="Bob")
    figures = json.loads(run("status", "--json", "-")[1])
    assert figures["agreement"] is None
    assert figures["accepted_error"]["estimate"] is None
    assert figures["disputed"] == [{"id": "m0", "labels": {"Ann": "ham", "Bob": "spam"}}]


def test_many_disputes_and_nothing_accepted(run, queue_file):
    queue = ReviewQueue(queue_file, classes=["a", "b"])
    rows = [{"id": i, "text": "t", "proba": [0.5, 0.5], "action": "review"} for i in range(25)]
    queue.add(rows)
    for i in range(25):
        queue.add_label(i, "a", reviewer="Ann")
        queue.add_label(i, "b", reviewer="Bob")
    out = run("status")[1]
    assert out.endswith("  19: Ann says a, Bob says b\n  ... and 5 more; --json has them all\n")


# export


def test_what_is_exported_calibrates(run, filled, tmp_path):
    ReviewQueue(filled.path, audit_share=0.5)
    more = decided(tmp_path / "more.csv", 60, prefix="n")
    assert run("add", more, "--text", "message")[0] == 0
    code, _, err = run("export", tmp_path / "o.csv")
    assert code == 1
    assert "has a label yet" in err
    assert "no column" not in err
    for row in filled.waiting():
        if row["id"] != "m0":
            filled.add_label(row["id"], "ham", reviewer="Ann")
    out = tmp_path / "o.csv"
    code, said, err = run("export", out)
    rows = read_table(out).rows
    assert said == f"Wrote {len(rows)} rows to {out}\n"
    assert "1 rows still wait" in err
    assert list(rows[0]) == ["id", "text", "label", "weight", "proba_ham", "proba_spam"]
    assert {row["id"]: row["weight"] for row in rows if row["id"][0] == "m"}["m1"] == "1.0"
    weights = {row["weight"] for row in rows if row["id"][0] == "n"}
    assert weights == {"1.0", "2.0"}
    assert "m4" not in {row["id"] for row in rows}  # it has no probabilities
    filled.add_label("m0", "ham", reviewer="Ann")
    assert run("export", tmp_path / "o.parquet")[2] == ""
    assert "those that work are .csv" in run("export", tmp_path / "o.docx")[2]


# serve


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def label_one(url):
    """Look at the page as a reviewer, and label the row that it shows."""
    with OPENER.open(f"{url}?reviewer=Ann", timeout=60) as answer:
        name = re.search(r'name="id" value="(\w+)"', answer.read().decode())[1]
    form = {"reviewer": "Ann", "act": "label", "id": name, "label": "ham"}
    with OPENER.open(f"{url}act", urlencode(form).encode(), timeout=60) as answer:
        assert f"Saved {name} as ham." in answer.read().decode()
    return name


def test_the_page_is_served_until_ctrl_c(filled):
    command = [sys.executable, "-m", "skllm_calib", "queue", "serve", str(filled.path)]
    # A shell may have told its background jobs to ignore Ctrl-C, which is handed down.
    start = f"import signal, os, sys; signal.signal(signal.SIGINT, signal.default_int_handler); os.execv({sys.executable!r}, sys.argv[1:])"  # noqa: E501
    server = subprocess.Popen(
        [sys.executable, "-c", start, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    try:
        url = server.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url)
        name = label_one(url)
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=60)
    finally:
        server.kill()
        server.communicate()
    assert (server.returncode, out) == (0, "")
    assert err == (
        "Open this address in a browser. Anyone who has it can label rows. Ctrl-C stops.\n"
        "Stopped. 19 rows wait; all labels are kept.\n"
    )
    assert [(one["id"], one["label"]) for one in filled.labels()] == [(name, "ham")]


def test_serve_in_this_process(run, filled, monkeypatch):
    made = threading.Event()
    servers = []

    class Watched(QueueServer):
        def __init__(self, queue, port):
            super().__init__(queue, port)
            servers.append(self)
            made.set()

    monkeypatch.setattr("skllm_calib.operations.queue.queue.QueueServer", Watched)
    results = []
    thread = threading.Thread(target=lambda: results.append(run("serve")))
    thread.start()
    assert made.wait(60)
    label_one(servers[0].url)
    servers[0]._http.shutdown()
    thread.join(60)
    ((code, out, err),) = results
    assert (code, out) == (0, servers[0].url + "\n")
    assert "19 rows wait" in err


def test_a_port_that_is_taken_or_none(run, filled, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, out, err = run("serve", "--port", port)
    assert (code, out) == (1, "")
    assert f"port {port} cannot be used (Address already in use): take another" in err
    for port in ("70000", "-1", "x"):
        with pytest.raises(SystemExit) as stop:
            run("serve", f"--port={port}")
        assert stop.value.code == 2
        assert f"'{port}' is not a port" in capsys.readouterr().err


def test_quiet_may_stand_anywhere(queue_file, tmp_path, capsys):
    file = decided(tmp_path / "rows.csv", 4)
    with open(file, "a", newline="") as f:
        csv.writer(f).writerow(["z", *[""] * 9])
    argv = ["add", str(queue_file), file, "--text", "message"]
    for words in (["queue", "--quiet", *argv], ["queue", *argv, "--quiet"]):
        assert main(words) == 0
        assert capsys.readouterr().err == ""
    assert main(["queue", *argv]) == 0
    assert "Left out 1 of 5 rows" in capsys.readouterr().err
