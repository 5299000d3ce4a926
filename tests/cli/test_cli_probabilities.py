"""Probabilities, ids, numbers and true labels of a file that our commands wrote."""

import numpy as np
import pytest

from skllm_calib.cli import main
from skllm_calib.operations.predictions import (
    own_column,
    read_ids,
    read_probabilities,
    read_true_labels,
)
from skllm_calib.utils.tables import Table, read_table, write_table


def table(columns, *rows):
    return Table(columns, [dict(zip(columns, row, strict=True)) for row in rows])


@pytest.mark.parametrize("extension", ["csv", "tsv", "json", "jsonl", "parquet", "xlsx"])
def test_what_predict_wrote_is_read_as_it_was(
    rows_csv, calibrated_dir, tmp_path, extension, capsys
):
    rows = read_table(rows_csv)
    rows.rows[3]["message"] = ""
    write_table(rows, rows_csv)
    out = tmp_path / f"o.{extension}"
    argv = ["predict", str(rows_csv), "--text", "message", "--classifier", str(calibrated_dir)]
    assert main([*argv, "--out", str(out)]) == 0
    written = read_table(out)
    found = read_probabilities(written)
    assert found.labels == ["ham", "spam"]
    assert found.matrix.shape == (120, 2)
    assert found.answered() == [i for i in range(120) if i != 3]
    assert np.isnan(found.matrix[3]).all()
    top = [float(row["probability"]) for i, row in enumerate(written.rows) if i != 3]
    assert found.matrix[found.answered()].max(axis=1).tolist() == top
    if extension in ("csv", "tsv"):  # 6 significant digits
        assert max(len(row["probability"]) for row in written.rows) <= len("0.123456")


def test_columns_that_had_to_be_renamed(tmp_path, capsys):
    path = tmp_path / "r.csv"
    path.write_text("message,label,proba_ham\na,ham,0.1\nb,ham,0.2\n")
    out = tmp_path / "o.csv"
    argv = ["--text", "message", "--model", "testing:p", "--classes", "ham,spam"]
    assert main(["predict", str(path), *argv, "--out", str(out)]) == 0
    found = read_table(out)
    assert own_column(found, "label") == "predicted_label"
    assert own_column(found, "probability") == "probability"
    assert own_column(found, "action") is None
    ours = [float(p) for p in found.column("predicted_proba_ham")]
    assert read_probabilities(found).matrix[:, 0].tolist() == ours
    assert read_true_labels(found, "label") == ["ham", "ham"]
    with pytest.raises(ValueError, match="'predicted_label' holds the labels that the model gave"):
        read_true_labels(found, "predicted_label")


def test_a_users_own_predicted_label_stays_the_users():
    found = table(["predicted_label", "label", "probability"])
    assert own_column(found, "label") == "label"


def test_labels_are_sorted_and_may_hold_anything():
    found = read_probabilities(table(["proba_z, y", "x", "proba_proba_a"], ["0.25", "", "0.75"]))
    assert found.labels == ["proba_a", "z, y"]
    assert found.matrix.tolist() == [[0.75, 0.25]]


def test_rounded_rows_are_put_right():
    found = read_probabilities(
        table(["proba_a", "proba_b", "proba_c"], [0.333, 0.333, 0.333], [0.2, 0.3, 0.5])
    )
    assert found.matrix.sum(axis=1) == pytest.approx(1, abs=1e-12)
    assert found.matrix[1].tolist() == [0.2, 0.3, 0.5]  # untouched


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        (["text"], ["x"], r"proba_LABEL .* 'skllm-calib predict' and 'decide' .*; found: none"),
        (["proba_a"], ["1"], "found: 'proba_a'"),
        (["proba_a", "proba_b"], ["0,4x", "0.6"], "row 2 has '0,4x' in column 'proba_a'.*number"),
        (["proba_a", "proba_b"], ["inf", "0.6"], "row 2 has inf in column 'proba_a'.*between"),
        (["proba_a", "proba_b"], ["0.4", ""], "row 2 has nothing in column 'proba_b', but in"),
        (["proba_a", "proba_b"], ["0.4", float("nan")], "row 2 has nothing in column 'proba_b'"),
        (["proba_a", "proba_b"], ["-0.4", "1.4"], "row 2 has -0.4 in column 'proba_a'.*between"),
        (["proba_a", "proba_b"], ["0.4", "0.5"], r"row 2 .* sum to 0.9, not to 1, in 'proba_a', "),
        (
            [f"proba_{k}" for k in "abcdef"],
            ["0.4"] * 6,
            r"row 2 .* sum to 2.4, .*'proba_e', \.\.\.$",
        ),
    ],
)
def test_what_is_wrong_is_said_with_row_and_column(columns, row, message):
    good = ["1", *["0"] * (len(columns) - 1)]
    with pytest.raises(ValueError, match=message):
        read_probabilities(table(columns, good if len(columns) > 1 else row, row))


def test_no_row_has_any():
    found = read_probabilities(table(["proba_a", "proba_b"], ["", None], [" ", ""]))
    assert found.answered() == []


def test_numbers_and_ids():
    found = table(["w", "id"], ["1.5", 7], ["", "7"], [2, ""], [None, "x"])
    np.testing.assert_array_equal(found.numbers("w"), [1.5, np.nan, 2, np.nan])
    assert read_ids(found, "id", [0, 3]) == ["7", "x"]
    with pytest.raises(ValueError, match="row 1 and row 2 have the same id '7' in column 'id'"):
        read_ids(found, "id", [0, 1])
    with pytest.raises(ValueError, match="row 3 has no id in column 'id'"):
        read_ids(found, "id", [2])
    with pytest.raises(ValueError, match="no column 'ids': the columns are 'w', 'id'"):
        read_ids(found, "ids", [0])


def test_true_labels():
    columns = ["label", "probability", "proba_a"]
    rows = [[" a ", 1, 1], [None, 1, 1], [" ", 1, 1], [7, 1, 1]]
    with pytest.raises(ValueError, match="'label' holds the labels that the model gave"):
        read_true_labels(table(columns, *rows), "label")
    # What 'queue export' and 'queue hand-out' write: a reviewer's labels.
    for kept in (["label", "proba_a"], ["label", "probability"]):
        found = table(columns, *rows)
        assert read_true_labels(Table(kept, found.rows), "label") == ["a", None, None, "7"]
