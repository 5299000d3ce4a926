"""predict: what it writes, what fails, and what survives an interrupt."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from skllm_calib.backends import PROVIDERS, TestingBackend
from skllm_calib.cli import classifier, main
from skllm_calib.utils.partial import Answer, PartialAnswers
from skllm_calib.utils.tables import read_table

MODEL = ["--text", "message", "--model", "testing:pred", "--classes", "ham,spam"]


@pytest.mark.parametrize("extension", ["csv", "csv.gz", "tsv", "json", "jsonl", "parquet", "xlsx"])
def test_columns_rows_and_actions(rows_csv, calibrated_dir, tmp_path, extension, capsys):
    out = tmp_path / f"o.{extension}"
    argv = ["predict", str(rows_csv), "--text", "message", "--classifier", str(calibrated_dir)]
    assert main([*argv, "--threshold", "0.6", "--out", str(out)]) == 0
    table = read_table(out)
    assert table.columns == ["id", "message", "kind", "label", "probability", "proba_ham",
                             "proba_spam", "failure", "action"]  # fmt: skip
    assert table.column("id") == [str(i) for i in range(120)]
    for row in table.rows:
        p = [float(row["proba_ham"]), float(row["proba_spam"])]
        assert sum(p) == pytest.approx(1, abs=2e-6)
        assert float(row["probability"]) == max(p)
        assert row["label"] == ("ham" if p[0] >= p[1] else "spam")
        assert row["action"] == ("accept" if max(p) >= 0.6 else "review")
    accepted = sum(row["action"] == "accept" for row in table.rows)
    err = capsys.readouterr().err
    assert f"Wrote {out}: 120 rows, {accepted} accepted, {120 - accepted} to review" in err
    assert not out.with_name(out.name + ".part").exists()


def test_without_out_it_is_csv_and_raw_is_said(rows_csv, capsys):
    assert main(["predict", str(rows_csv), *MODEL]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "id,message,kind,label,probability,proba_ham,proba_spam,failure"
    assert len(out.splitlines()) == 121
    assert "These probabilities are raw" in err


@pytest.mark.parametrize("limit", ["0.04", "0.06", "auto"])
def test_rows_fail_above_the_limit_of_evidence_on_no_label(rows_csv, tmp_path, limit, capsys):
    out = tmp_path / "o.csv"
    argv = ["predict", str(rows_csv), *MODEL, "--max-off-label", limit, "--out", str(out)]
    main(argv)  # the backend leaves 5 % on no label
    n_failed = sum("max_off_label" in row["failure"] for row in read_table(out).rows)
    assert n_failed == (120 if limit == "0.04" else 0)


def test_a_limit_that_is_no_share(rows_csv, capsys):
    with pytest.raises(SystemExit):
        main(["predict", str(rows_csv), *MODEL, "--max-off-label", "2"])
    assert "'2' is not a number from 0 to 1" in capsys.readouterr().err


def test_columns_of_the_same_names_are_kept(tmp_path, capsys):
    path = tmp_path / "r.csv"
    path.write_text("message,label,predicted_label\na,ham,old\n")
    assert main(["predict", str(path), *MODEL]) == 0
    out, err = capsys.readouterr()
    header = "message,label,predicted_label,predicted_predicted_label,probability"
    assert out.startswith(header)
    assert "ours are 'predicted_predicted_label'" in err


@pytest.fixture
def bad_rows(tmp_path, monkeypatch):
    monkeypatch.setitem(
        PROVIDERS, "testing", lambda name: TestingBackend(name=name, fail_on=("bad",))
    )
    path = tmp_path / "r.jsonl"
    rows = [{"message": m} for m in ("fine", None, " ", "bad", "good")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_failures_cost_no_other_row(bad_rows, tmp_path, capsys):
    out = tmp_path / "o.jsonl"
    argv = ["predict", str(bad_rows), *MODEL, "--out", str(out), "--threshold", "0"]
    assert main(argv) == 0
    err = capsys.readouterr().err
    assert "3 of 5 rows failed:\n  row 2 (line 2): the text is missing\n" in err
    assert "  row 3 (line 3): the text is empty\n" in err
    assert "  row 4 (line 4): the test backend was told to fail on 'bad'" in err
    assert "5 rows, 3 failed, 2 accepted, 3 to review" in err
    rows = read_table(out).rows
    assert [row["label"] is None for row in rows] == [False, True, True, True, False]
    assert [row["action"] for row in rows] == ["accept", "review", "review", "review", "accept"]
    assert [row["failure"] is None for row in rows] == [True, False, False, False, True]


def test_on_error_raise_writes_no_result_and_keeps_what_is_done(bad_rows, tmp_path, capsys):
    out = tmp_path / "o.csv"
    argv = ["predict", str(bad_rows), *MODEL, "--out", str(out), "--cache", "none"]
    assert main([*argv, "--on-error", "raise"]) == 1
    assert "no result was written" in capsys.readouterr().err
    assert not out.exists()
    backend = TestingBackend(name="pred")
    backend.forget()
    assert main(argv) == 0  # what failed is asked again, what is there is not
    assert "Going on: 2 of 5 rows" in capsys.readouterr().err
    assert backend.asked.total() == 1


def test_a_long_list_of_failures_is_cut(tmp_path, capsys):
    path = tmp_path / "r.csv"
    path.write_text("message,n\n" + ",1\n" * 30)
    assert main(["predict", str(path), *MODEL]) == 0
    assert "... and 10 more; the column 'failure' has all" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "INPUT"], "is the file that is read"),
        (["--classifier", "DIR", "--classes", "a,b"], "--classes goes with --model"),
    ],
)
def test_contradictions(rows_csv, calibrated_dir, options, message, capsys):
    known = {"INPUT": str(rows_csv), "DIR": str(calibrated_dir)}
    options = [known.get(o, o) for o in options]
    base = ["predict", str(rows_csv)]
    base += ["--text", "message"] if "--classifier" in options else MODEL
    assert main([*base, *options]) == 1
    assert message in capsys.readouterr().err


def test_a_result_is_replaced_only_by_the_finished_one(rows_csv, tmp_path, monkeypatch, capsys):
    out = tmp_path / "o.csv"
    out.write_text("old")

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(TestingBackend, "run", interrupted)
    assert main(["predict", str(rows_csv), *MODEL, "--out", str(out)]) == 130
    assert f"What is done is kept in {out}.part" in capsys.readouterr().err
    assert out.read_text() == "old"
    assert main(["predict", str(rows_csv), *MODEL]) == 130
    assert "Replies so far are kept" in capsys.readouterr().err
    assert main(["predict", str(rows_csv), *MODEL, "--cache", "none"]) == 130
    assert "Nothing was kept" in capsys.readouterr().err


def test_progress_is_shown_to_a_terminal(rows_csv, monkeypatch, capsys):
    monkeypatch.setattr("skllm_calib.cli.answers.progress_wanted", lambda args: 1)
    assert main(["predict", str(rows_csv), *MODEL]) == 0
    assert "rows" in capsys.readouterr().err


def test_answers_to_another_question_are_not_taken_over(tmp_path):
    out = tmp_path / "o.csv"
    first = PartialAnswers(out, "one")
    first.add([Answer(2, [0.25, 0.75]), Answer(0, [1.0, 0.0]), Answer(3, None, "no")])
    assert first[3] == Answer(3, None, "no")
    path = tmp_path / "o.csv.part"
    path.write_text(path.read_text() + '{"row": 1, "pro')  # the process died here
    again = PartialAnswers(out, "one")
    assert again.n_found == 2
    assert [i in again for i in range(5)] == [True, False, True, False, False]
    assert again[2] == Answer(2, [0.25, 0.75])
    assert again[3] == Answer(3, None)  # is asked again
    again.add([Answer(1, [0.5, 0.5])])
    assert PartialAnswers(out, "one").n_found == 3
    assert PartialAnswers(out, "two").n_found == 0
    path.write_text("")
    assert PartialAnswers(out, "two").n_found == 0


SLOW = """
import os, sys, time
from skllm_calib.backends import TestingBackend
from skllm_calib.backends import PROVIDERS
from skllm_calib.cli import main

class Slow(TestingBackend):
    def run(self, requests):
        for i, answer in super().run(requests):
            time.sleep(float(os.environ["DELAY"]))
            with open(os.environ["ASKED"], "a") as f:
                f.write(requests[i].messages[-1].content.replace(chr(10), " ") + chr(10))
            yield i, answer

PROVIDERS["slow"] = lambda name: Slow(name=name)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("cache", ["default", "none"])
@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_asks_only_for_what_is_missing(rows_csv, tmp_path, cache, death):
    out, asked = tmp_path / "o.csv", tmp_path / "asked.txt"
    asked.touch()
    command = [sys.executable, "-c", SLOW, "predict", str(rows_csv), "--text", "message"]
    command += ["--model", "slow:x", "--classes", "ham,spam", "--out", str(out)]
    command += ["--cache", "none"] if cache == "none" else []
    env = {**os.environ, "ASKED": str(asked), "DELAY": "0.05"}
    run = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while asked.read_text().count("\n") < 35 and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(death)
    _, err = run.communicate(timeout=60)
    assert run.returncode == (130 if death == signal.SIGINT else -signal.SIGKILL)
    assert ("run the same command again" in err) == (death == signal.SIGINT)
    assert not out.exists()
    first = asked.read_text().splitlines()
    assert 35 <= len(first) < 120

    done = subprocess.run(
        command, env={**env, "DELAY": "0"}, capture_output=True, text=True, check=True, timeout=120
    )
    second = asked.read_text().splitlines()[len(first) :]
    assert len(read_table(out).rows) == 120
    # One reply may have been under way; without a cache, a chunk of ten.
    assert len(set(first) & set(second)) <= (10 if cache == "none" else 1)
    assert len(set(first) | set(second)) == 120
    assert len(second) < 100
    assert "120 rows" in done.stderr


POOLED = """
import os, sys, time
from skllm_calib.backends import PROVIDERS, TestingBackend
from skllm_calib.evidence.backends.base import Answering
from skllm_calib.cli import main

asked = open(os.environ["ASKED"], "a", buffering=1)

class Pooled(TestingBackend):
    def answering(self, first):
        def answer(request):
            text = request.messages[-1].content.replace(chr(10), " ")
            time.sleep(1.5 if "SLOW" in text else 0.002)
            asked.write(text + chr(10))
            return next(TestingBackend.run(self, [request]))[1]
        return Answering(answer, 8, lambda: None)

PROVIDERS["pooled"] = lambda name: Pooled(name=name)
sys.exit(main(sys.argv[1:]))
"""


def test_no_row_waits_for_another_and_a_killed_run_asks_and_writes_nothing_twice(tmp_path):
    """One row takes longer than all the others, which are kept before it is done."""
    table, out, asked = (tmp_path / name for name in ("t.csv", "o.jsonl", "asked.txt"))
    table.write_text("text\nSLOW\n" + "".join(f"message {i}\n" for i in range(400)))
    command = [sys.executable, "-c", POOLED, "predict", str(table), "--text", "text"]
    command += ["--model", "pooled:x", "--classes", "ham,spam", "--out", str(out)]
    command += ["--cache", "none"]
    env = {**os.environ, "ASKED": str(asked)}
    run = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    part = tmp_path / "o.jsonl.part"
    deadline = time.monotonic() + 120
    while not (part.exists() and part.read_text().count("\n") > 200):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.kill()
    run.wait()
    kept = {json.loads(line)["row"] for line in part.read_text().splitlines()[1:]}
    assert 0 not in kept
    assert not out.exists()
    first = asked.read_text().splitlines()
    subprocess.run(command, env=env, check=True, timeout=120, capture_output=True)
    second = asked.read_text().splitlines()[len(first) :]
    assert len(second) == 401 - len(kept)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["text"] for row in rows] == ["SLOW", *(f"message {i}" for i in range(400))]
    assert not part.exists()


def test_rows_come_on_standard_output_while_others_are_asked(rows_csv, tmp_path):
    command = [sys.executable, "-c", SLOW, "predict", str(rows_csv), "--text", "message"]
    command += ["--model", "slow:x", "--classes", "ham,spam", "--cache", "none"]
    env = {**os.environ, "ASKED": str(tmp_path / "asked.txt"), "DELAY": "0.05"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline().startswith("id,message,kind,label,probability")
        assert run.stdout.readline().startswith("0,")
        n_asked = (tmp_path / "asked.txt").read_text().count("\n")
        assert run.stdout.read().count("\n") == 119
    assert n_asked < 100
    assert run.returncode == 0


def test_how_many_requests_at_a_time(rows_csv, calibrated_dir, capsys):
    argv = ["predict", str(rows_csv), "--text", "message", "--concurrency"]
    assert main([*argv, "4", "--classifier", str(calibrated_dir)]) == 1
    said = "--concurrency 4 is for models behind a server, and TestingBackend is none"
    assert said in capsys.readouterr().err
    args = SimpleNamespace(model="openai:m", base_url=None, api_key_env=None, concurrency=200)
    assert classifier._model(args).get_params()["max_concurrency"] == 200
    args = SimpleNamespace(model="openai:m", base_url=None, api_key_env=None)
    args.requests_per_minute, args.tokens_per_minute = 500, 90_000
    params = classifier._model(args).get_params()
    assert (params["requests_per_minute"], params["tokens_per_minute"]) == (500, 90_000)
    with pytest.raises(SystemExit):
        main([*argv, "0", *MODEL])
    assert "'0' is not a whole number, 1 or more" in capsys.readouterr().err
