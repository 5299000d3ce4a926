"""evaluate: only rows that did not calibrate, figures before and after, thresholds."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from skllm_calib import CalibratedLLMClassifier, LLMClassifier, LLMEnsembleClassifier
from skllm_calib.backends import TestingBackend
from skllm_calib.cli import main


@pytest.fixture
def argv(rows_csv, calibrated_dir):
    return ["evaluate", str(rows_csv), "--text", "message", "--label", "kind", "--classifier",
            str(calibrated_dir)]  # fmt: skip


def test_calibration_rows_are_left_out(argv, tmp_path, capsys):
    plot, figures = tmp_path / "p" / "r.png", tmp_path / "j" / "f.json"
    assert main([*argv, "--plot", str(plot), "--json", str(figures)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("60 rows, none of which calibrated the classifier")
    assert "Left out 60 rows that calibrated the classifier." in err
    for word in ("accuracy", "log-loss", "Brier", "ECE", "interval", "noise floor"):
        assert word in out
    for target in ("90%", "95%", "99%"):
        assert f"at least {target} right:" in out
    assert plot.read_bytes().startswith(b"\x89PNG")
    result = json.loads(figures.read_text())
    assert result["n"] == result["n_left_out"] == 60
    assert result["calibrated"]["log_loss"] < result["raw"]["log_loss"]
    assert [t["target"] for t in result["thresholds"]] == [0.9, 0.95, 0.99]


def test_a_copy_in_another_format_is_recognised_row_by_row(argv, rows_csv, tmp_path, capsys):
    from skllm_calib.utils.tables import Table, read_table, write_table

    table = read_table(rows_csv)
    copy = tmp_path / "copy.parquet"
    write_table(Table(table.columns, table.rows[::-1]), copy)
    assert main([argv[0], str(copy), *argv[2:], "--n-rows", "30"]) == 0
    assert capsys.readouterr().out.startswith("30 rows, none")


def test_without_a_record_of_the_rows_it_says_so(argv, calibrated_dir, capsys):
    (calibrated_dir / "calibration_rows.json").unlink()
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert out.startswith("120 rows\n")
    assert "does not say which rows it was calibrated on" in err


def test_nothing_left_and_unknown_labels(argv, rows_csv, tmp_path, capsys):
    used = tmp_path / "used.csv"
    numbers = json.loads((tmp_path / "classifier" / "calibration_rows.json").read_text())["rows"]
    lines = rows_csv.read_text().splitlines(keepends=True)
    used.write_text(lines[0] + "".join(lines[i] for i in numbers))
    assert main([argv[0], str(used), *argv[2:]]) == 1
    assert "every row of" in capsys.readouterr().err
    odd = tmp_path / "odd.csv"
    odd.write_text("message,kind\nnew,ham\nother,egg\n")
    assert main([argv[0], str(odd), *argv[2:]]) == 1
    assert (
        "row 2 (line 3) has the label 'egg', which the classifier does not know"
        in capsys.readouterr().err
    )


def test_a_picture_of_an_unknown_kind_costs_no_question(argv, capsys):
    assert main([*argv, "--plot", "x.docx"]) == 1
    assert "the extension must be that of a picture" in capsys.readouterr().err


@pytest.mark.parametrize("piece", ["message 1", "message"])
def test_failed_rows_are_counted(argv, rows_csv, calibrated_dir, monkeypatch, capsys, piece):
    classifier = CalibratedLLMClassifier.load(calibrated_dir)
    classifier.estimator_.model = TestingBackend(name="cli", fail_on=(piece,))
    classifier.save(calibrated_dir)
    code = main([*argv, "--cache", "none"])
    out, err = capsys.readouterr()
    assert "failed: the test backend was told to fail on" in err
    if piece == "message":
        assert code == 1
        assert "none of the 60 rows could be scored" in err
    else:
        assert code == 0
        assert "more failed)" in out


def test_only_language_models(tmp_path, argv, capsys):
    X = np.arange(40.0).reshape(-1, 1)
    other = CalibratedLLMClassifier(LogisticRegression(), method="temperature")
    other.fit(X, np.tile(["ham", "spam"], 20)).save(tmp_path / "other", format="joblib")
    assert main([*argv[:-1], str(tmp_path / "other")]) == 1
    assert "is a pickle, which runs whatever code it holds" in capsys.readouterr().err
    llm = LLMClassifier("testing:cli", classes=["ham", "spam"], cache=None)
    pool = CalibratedLLMClassifier(LLMEnsembleClassifier([("one", llm)]), method="temperature")
    pool.fit([f"m{i}" for i in range(40)], ["ham", "spam"] * 20).save(tmp_path / "pool")
    assert main([*argv[:-1], str(tmp_path / "pool")]) == 1
    assert "holds a calibrated LLMEnsembleClassifier" in capsys.readouterr().err


def test_frozen_estimators(argv, calibrated_dir, capsys):
    from sklearn.frozen import FrozenEstimator

    llm = LLMClassifier("testing:cli", classes=["ham", "spam"]).fit(["x"])
    frozen = CalibratedLLMClassifier(FrozenEstimator(llm), method="temperature")
    frozen.fit([f"m{i}" for i in range(40)], ["ham", "spam"] * 20).save(calibrated_dir)
    assert main(argv) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err
