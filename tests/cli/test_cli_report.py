"""report: the page and its figures, from a classifier or from the columns of a file."""

import csv
import json
from collections import defaultdict

import pytest

from skllm_calib import RiskMatrix
from skllm_calib.cli import main
from skllm_calib.operations.report.charts import charts_of
from skllm_calib.utils.tables import Table, read_table, write_table

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Leave the pictures out: to draw them takes seconds."""
    monkeypatch.setattr(
        "skllm_calib.operations.report.report.charts_of",
        lambda rows: defaultdict(lambda: "<svg></svg>"),
    )


@pytest.fixture
def argv(rows_csv, calibrated_dir, tmp_path):
    return ["report", str(rows_csv), "--text", "message", "--label", "kind", "--classifier",
            str(calibrated_dir), "--out", str(tmp_path / "out" / "report.html")]  # fmt: skip


def test_rows_that_calibrated_are_left_out(argv, tmp_path, capsys):
    figures = tmp_path / "figures" / "report.json"
    more = ["--json", str(figures), "--title", "Kinds & more", "--price-per-million", "0.5,2"]
    assert main([*argv, *more]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Kinds & more\n- The most probable label is right in ")
    assert "Left out 60 rows that calibrated the classifier." in err
    assert "Written: " in err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<title>Kinds &amp; more</title>" in page
    assert "quoted" in page
    assert "in all," in page  # the money
    content = json.loads(figures.read_text())
    assert content["data"]["n"] == 60
    assert content["before"] is not None
    assert content["card"]["n"] == 60
    assert "message" not in json.dumps(content["rows"])
    # Rows go by their number in the file.
    first = content["rows"]["doubtful"][0]
    with open(argv[1], encoding="utf-8", newline="") as f:
        kinds = [row["kind"] for row in csv.DictReader(f)]
    assert kinds[int(first["id"]) - 1] == first["true"]


def test_texts_can_be_left_out(argv, tmp_path, capsys):
    assert main([*argv, "--no-texts", "--n-rows", "30", "--n-listed", "3", "--id", "id"]) == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "quoted" not in page
    assert "30 rows" in page


def test_the_policy_of_the_folder_is_reported_and_the_rows_it_saw_are_no_test(
    argv, rows_csv, calibrated_dir, tmp_path, capsys
):
    table = read_table(rows_csv)
    halves = {}
    used = set(json.loads((calibrated_dir / "calibration_rows.json").read_text())["rows"])
    left = [row for number, row in enumerate(table.rows, 1) if number not in used]
    for name, rows in (("one", left[:40]), ("two", left[40:])):
        halves[name] = tmp_path / f"{name}.csv"
        write_table(Table(table.columns, rows), halves[name])
    decide = ["decide", "--text", "message", "--labelled", str(halves["one"]), "--label", "kind",
              "--classifier", str(calibrated_dir), "--max-reviews", "0.5"]  # fmt: skip
    assert main(decide) == 0
    for name, seen in (("one", True), ("two", False)):
        figures = tmp_path / f"{name}.json"
        assert main([argv[0], str(halves[name]), *argv[2:], "--json", str(figures)]) == 0
        policy = json.loads(figures.read_text())["policy"]
        assert policy["saw_these_rows"] is seen
        assert (policy["precision_lower_bound"] is None) is seen
        assert any("Promise" in line for line in policy["summary"])


@pytest.fixture
def decided(rows_csv, calibrated_dir, tmp_path, capsys):
    """Let predict write the probabilities of all rows."""
    path = tmp_path / "answers.csv"
    argv = ["predict", str(rows_csv), "--text", "message", "--classifier", str(calibrated_dir)]
    assert main([*argv, "--out", str(path), "--quiet"]) == 0
    capsys.readouterr()
    return path


def test_from_the_columns_of_a_file(decided, tmp_path, capsys):
    table = read_table(decided)
    table.rows[3]["kind"] = ""
    for name in ("proba_ham", "proba_spam", "label", "probability"):
        table.rows[4][name] = ""
    table.columns.append("weight")
    for number, row in enumerate(table.rows):
        row["weight"] = "2" if number % 2 else "1"
    write_table(table, decided)
    out, figures = tmp_path / "r.html", tmp_path / "r.json"
    argv = ["report", str(decided), "--label", "kind", "--out", str(out), "--json", str(figures)]
    assert main([*argv, "--weight", "weight", "--text", "message"]) == 0
    assert "Left out 1 of 120 rows: they have no label." in capsys.readouterr().err
    content = json.loads(figures.read_text())
    assert content["data"]["n"] == 118
    assert content["data"]["n_failed"] == 1
    assert content["data"]["weighted"]
    assert content["before"] is content["card"] is content["usage"] is None
    assert content["rows"]["failed"][0]["id"] == "5"
    assert "quoted" in out.read_text(encoding="utf-8")
    assert main(argv) == 0
    assert "quoted" not in out.read_text(encoding="utf-8")


def test_a_risk_matrix_counts_rows(decided, tmp_path, capsys):
    matrix = tmp_path / "matrix.json"
    table = read_table(decided)
    table.columns.append("value")
    for number, row in enumerate(table.rows):
        row["value"] = "severe" if number % 3 else "minor"
    write_table(table, decided)
    matrix.write_text(json.dumps(RiskMatrix.five_by_five().to_dict()))
    figures = tmp_path / "r.json"
    argv = ["report", str(decided), "--label", "kind", "--out", str(tmp_path / "r.html"), "--json",
            str(figures), "--risk-matrix", str(matrix)]  # fmt: skip
    assert main([*argv, "--impact", "value"]) == 0
    found = json.loads(figures.read_text())["risk_matrix"]
    columns = [sum(band[k] for band in found["n_by_cell"]) for k in range(5)]
    assert columns == [0, 40, 0, 0, 80]
    capsys.readouterr()
    assert main(argv) == 1
    assert "has no impact of its own" in capsys.readouterr().err


def test_the_page_has_its_pictures(decided, tmp_path, monkeypatch):
    monkeypatch.setattr("skllm_calib.operations.report.report.charts_of", charts_of)
    out = tmp_path / "r.html"
    assert main(["report", str(decided), "--label", "kind", "--out", str(out), "--quiet"]) == 0
    assert out.read_text(encoding="utf-8").count('role="img"') == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--out", "report.pdf"], "--out report.pdf: must end in .html"),
        (["--json", "figures.txt"], "--json figures.txt: must end in .json"),
        (["--impact", "value"], "--impact goes with --risk-matrix"),
        (["--n-listed", "-1"], "n_rows must be an integer of at least 0"),
        (["--label", "label"], "holds the labels that the model gave"),
        (["--label", "nothing"], "no column 'nothing'"),
        (["--weight", "message"], "has the weight 'message 0"),
        (["--classifier", "."], "--classifier needs --text COL"),
    ],
)
def test_mistakes_are_named(decided, tmp_path, capsys, change, message):
    argv = ["report", str(decided), "--label", "kind", "--out", str(tmp_path / "r.html")]
    assert main([*argv, *change]) == 1
    assert message in capsys.readouterr().err


def test_no_labels_and_strange_ones(decided, tmp_path, capsys):
    table = read_table(decided)
    argv = ["report", str(decided), "--label", "kind", "--out", str(tmp_path / "r.html")]
    table.rows[7]["kind"] = "egg"
    write_table(table, decided)
    assert main(argv) == 1
    assert "row 8 (line 9) has the label 'egg'" in capsys.readouterr().err
    for row in table.rows:
        row["kind"] = ""
    write_table(table, decided)
    assert main(argv) == 1
    assert "has a label in column 'kind'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--price-per-million", "cheap"])
    assert "must be two prices" in capsys.readouterr().err
