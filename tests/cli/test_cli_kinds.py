"""Every kind of file, and every command that reads a table: all of them read it alike."""

import csv
import gzip
import io
import json
import random
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from skllm_calib.cli import main
from skllm_calib.operations.monitor import CalibrationMonitor
from skllm_calib.operations.queue import ReviewQueue
from skllm_calib.utils.tables import Table, read_table, write_table

COLUMNS = ["id", "message", "truth", "action", "proba_ham", "proba_spam"]


def rows(n=60):
    rng = random.Random(3)
    out = []
    for i in range(n):
        p = round(rng.uniform(0.02, 0.98), 4)
        truth = "spam" if rng.random() < p else "ham"
        out.append(
            {
                "id": f"00{i}",
                "message": f'Größe {i}, 5" "breit";\nfür {truth}',
                "truth": truth,
                "action": "accept" if i % 2 else "review",
                "proba_ham": f"{1 - p:.4f}",
                "proba_spam": f"{p:.4f}",
            }
        )
    return out


def delimited(sep, *, comma=False):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=sep, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows():
        cells = list(row.values())
        writer.writerow([*cells[:4], *(c.replace(".", ",") if comma else c for c in cells[4:])])
    return out.getvalue()


def numbers():
    return [{**r, **{k: float(r[k]) for k in COLUMNS[4:]}} for r in rows()]


def written(extension):
    return lambda path: write_table(Table(COLUMNS, numbers()), path.with_suffix(extension))


def text(content, encoding="utf-8"):
    return lambda path: path.write_bytes(content.encode(encoding))


KINDS = {
    "comma.csv": text(delimited(",")),
    "bom.csv": text(delimited(","), "utf-8-sig"),
    "excel.csv": text("sep=;\r\n" + delimited(";", comma=True), "cp1252"),
    "semicolon.csv": text(delimited(";", comma=True), "cp1252"),
    "pipe.csv": text(delimited("|")),
    "utf16.csv": text(delimited("\t"), "utf-16"),
    "tab.tsv": text(delimited("\t")),
    "packed.csv.gz": lambda path: path.write_bytes(gzip.compress(delimited(",").encode())),
    "array.json": text(json.dumps(numbers())),
    "lines.jsonl": text("".join(json.dumps(row) + "\n" for row in numbers())),
    "sheet.xlsx": written(".xlsx"),
    "columns.parquet": written(".parquet"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    for name, write in KINDS.items():
        write(folder / name)
    return folder


@pytest.mark.filterwarnings("ignore:.*was read as Windows-1252")
@pytest.mark.parametrize("name", KINDS)
def test_the_same_cells(files, name):
    table = read_table(files / name)
    assert table.columns == COLUMNS
    for column in COLUMNS[:4]:
        assert table.column(column) == [row[column] for row in rows()]
    for column in COLUMNS[4:]:
        assert table.numbers(column) == [float(row[column]) for row in rows()]


REFERENCE = "comma.csv"
BASE = ["--quiet", "--text", "message"]
FOLDER = ["--classifier", "classifier"]
ADD = ["queue", "add", "q.db", REFERENCE, *BASE]
START = ["monitor", "start", "m.json", REFERENCE]
UPDATE = ["monitor", "update", "m.json", REFERENCE, "--id", "id", "--quiet"]
# By command: what goes before it, and its arguments behind the file, which stands for FILE.
RUNS = {
    "calibrate": ([], ["FILE", *BASE, "--label", "truth", "--model", "testing:k", "--out", "c",
                       "--method", "platt"]),
    "evaluate": ([], ["FILE", *BASE, "--label", "truth", *FOLDER, "--json", "-"]),
    "predict": ([], ["FILE", *BASE, *FOLDER, "--out", "out.jsonl"]),
    "decide": ([], [REFERENCE, *BASE, *FOLDER, "--labelled", "FILE", "--label", "truth",
                    "--max-reviews", "0.4"]),
    "report": ([], ["FILE", "--label", "truth", "--id", "id", "--out", "r.html", "--json",
                    "r.json"]),
    "queue add": ([], ["q.db", "FILE", *BASE]),
    "queue take-in": ([ADD], ["q.db", "FILE", "--reviewer", "Ann"]),
    "monitor start": ([], ["m.json", "FILE", "--label", "truth"]),
    "monitor update": ([START], ["m.json", "FILE", "--id", "id", "--quiet"]),
    "monitor labels": ([START, UPDATE], ["m.json", "FILE", "--id", "id", "--label", "truth"]),
}  # fmt: skip


def kept_by(command):
    """Return what a command keeps."""
    if command == "predict":
        return [(r["id"], r["label"], r["probability"]) for r in read_table("out.jsonl").rows]
    if command == "report":
        content = json.loads(Path("r.json").read_text("utf-8"))
        return {k: v for k, v in content.items() if k != "created"}
    if command.startswith("queue"):
        return [ReviewQueue("q.db").waiting(), str(ReviewQueue("q.db").statistics())]
    return CalibrationMonitor.load("m.json").to_json() if command.startswith("monitor") else None


@pytest.fixture
def results(files, calibrated_dir, tmp_path, monkeypatch, capsys):
    """Run a command on a file, and return all that it shows and keeps."""
    monkeypatch.setattr(
        "skllm_calib.operations.report.report.charts_of", lambda rows: defaultdict(str)
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / REFERENCE).write_bytes((files / REFERENCE).read_bytes())

    def run(command, file):
        for path in (*tmp_path.glob("q.db*"), *tmp_path.glob("m.json")):
            path.unlink()
        data = io.BytesIO((files / REFERENCE).read_bytes())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
        before, argv = RUNS[command]
        for one in before:
            assert main(one) == 0
        capsys.readouterr()
        code = main([*command.split(), *(file if a == "FILE" else a for a in argv)])
        out = re.sub(r"\n  usage .*", "", capsys.readouterr().out)  # more and more is in the cache
        return code, out if file == "-" else out.replace(file, "FILE"), kept_by(command)

    return run


@pytest.mark.filterwarnings("ignore:.*was read as Windows-1252")
@pytest.mark.parametrize("command", RUNS)
def test_every_command_reads_every_kind_alike(results, files, tmp_path, command):
    if command == "queue take-in":  # which wants a column 'label'
        for name in KINDS:
            table = read_table(files / name)
            table.columns[2] = "label"
            for row in table.rows:
                row["label"] = row["truth"]
            write_table(table, tmp_path / name)
        files = tmp_path
        names = ["bom.csv", "packed.csv.gz", "array.json", "lines.jsonl", "sheet.xlsx",
                 "columns.parquet"]  # fmt: skip
    else:
        names = [*KINDS, "-"]
    expected = results(command, str(files / "comma.csv"))
    assert expected[0] in (0, 3)
    for name in names[1:]:
        assert results(command, name if name == "-" else str(files / name)) == expected, name


# -- broken files ----------------------------------------------------------------------------------


def csv_error(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="line") as caught:
        read_table(path)
    return str(caught.value)


LINES = ["text,label", *(f"fine product {i},good" for i in range(1, 21))]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({4: '"great product 4,good'}, 5),  # never closed
        ({20: '"great product 20,good'}, 21),  # on the last line
        ({4: 'great product 4,"good'}, 5),  # in the second column
        ({4: '"great product 4,good', 9: '"great product 9,good'}, 5),  # closed by the next one
        ({2: '"two\nlines",good', 6: '"great product 6,good'}, 8),  # after a legal one of two lines
        ({4: '"say ""so,good'}, 5),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_unclosed_quote_names_the_line_where_it_opens(tmp_path, changes, line, end):
    lines = [changes.get(i, text) for i, text in enumerate(LINES)]
    content = (end.join(lines) + end).replace("two\nlines", f"two{end}lines")
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode())
    with pytest.raises(ValueError, match=rf"line {line}: a quote opens a cell here"):
        read_table(path)


def test_legal_quotes_and_odd_ones_stay(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        'text,label\n5" screw,a\n"one\ntwo, ""three""",b\nit is "so",c\n"Great" stuff,d\n"",e\n'
    )
    table = read_table(path)
    assert table.column("text") == [
        '5" screw',
        'one\ntwo, "three"',
        'it is "so"',
        "Great stuff",
        "",
    ]
    assert [table.name(i) for i in (1, 2)] == ["row 2 (line 3)", "row 3 (line 5)"]


def test_too_many_and_too_few_cells_name_the_line(tmp_path):
    few = csv_error(tmp_path, 'text,label\n"a\nb",x\nc\n')
    assert "line 4: 1 cells, but the header names 2 columns" in few
    many = csv_error(tmp_path, "text,label\na,x\nb, c,x\n")
    assert "line 3: 3 cells, but the header names 2 columns" in many


def test_separator_and_encoding_can_be_given(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_bytes("a,b~c\nż,1~2\n".encode("cp1250"))
    argv = ["predict", str(path), "--text", "a,b", "--model", "testing:x", "--classes", "a,b"]
    assert main([*argv, "--sep", "~", "--encoding", "cp1250", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith('"ż,1",2,')
    assert main([*argv, "--encoding", "klingon"]) == 1
    assert "encoding='klingon' is unknown (here: --encoding)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--sep", "::"])
    assert "'::' is not one character" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="was read as Windows-1252"):
        read_table(path)


def test_what_is_neither_text_nor_number_is_refused(tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    for cell, what in (({"a": 1}, "an object"), (["x"], "a list")):
        path.write_text(json.dumps({"m": "fine"}) + "\n" + json.dumps({"m": cell}) + "\n")
        argv = ["predict", str(path), "--text", "m", "--model", "testing:x", "--classes", "a,b"]
        assert main([*argv, "--quiet"]) == 1
        assert f"row 2 (line 2) holds {what}, where text" in capsys.readouterr().err
    parquet = tmp_path / "t.parquet"
    write_table(Table(["m"], [{"m": b"\x00\x01"}]), parquet)
    assert main(["predict", str(parquet), *argv[2:], "--quiet"]) == 1
    assert "row 1 holds bytes, where text" in capsys.readouterr().err


def test_half_a_surrogate_pair_costs_its_row_only(tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    path.write_text('{"m": "cut \\ud83d", "l": "a"}\n{"m": "fine", "l": "b"}\n')
    argv = ["--text", "m", "--model", "testing:x"]
    for kind in ("csv", "jsonl", "json", "parquet", "xlsx"):
        out = tmp_path / f"o.{kind}"
        assert main(["predict", str(path), *argv, "--classes", "a,b", "--out", str(out)]) == 0
        assert "row 1 (line 1): the text contains an unpaired surrogate" in capsys.readouterr().err
        assert read_table(out).column("label")[1] in ("a", "b")
    assert main(["predict", str(path), *argv, "--classes", "a,b", "--quiet"]) == 0
    assert "\\ud83d" in capsys.readouterr().out
    assert main(["calibrate", str(path), *argv, "--label", "l", "--out", str(tmp_path / "c")]) == 1
    assert "row 1 (line 1) has an unpaired surrogate" in capsys.readouterr().err


def test_excel_gets_texts_that_look_like_formulas_and_no_more_than_it_holds(tmp_path):
    path = tmp_path / "t.xlsx"
    write_table(Table(["a"], [{"a": "=1+1"}, {"a": "bell \x07"}]), path)
    assert read_table(path).column("a") == ["=1+1", "bell \ufffd"]
    with pytest.raises(ValueError, match=r"row 1 has 40,000 characters in column 'a'"):
        write_table(Table(["a"], [{"a": "x" * 40_000}]), path)


# -- labels and ids --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "label"),
    [
        (["1", "1.0", "1 ", " 1"], "1"),
        ([1, 1.0, "1", True and 1], "1"),
        ([True, "true", "TRUE", "True "], "True"),
        (["007"], "007"),
        (["1.50"], "1.50"),
    ],
)
def test_labels_and_ids_have_one_rule(cells, label):
    table = Table(["x"], [{"x": cell} for cell in cells])
    assert table.labels("x") == [label] * len(cells)


def test_labels_are_one_across_calibrate_queue_and_monitor(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spelled = ["1", "1.0", "1 ", "0", "0.0", " 0"]
    with open("rows.csv", "w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["id", "m", "l"])
        writer.writerows([f"00{i}", f"text {i}", spelled[i % 6]] for i in range(24))
    argv = ["--text", "m", "--quiet"]
    calibrate = ["calibrate", "rows.csv", *argv, "--label", "l", "--model", "testing:l"]
    assert main([*calibrate, "--out", "c"]) == 0
    predict = ["predict", "rows.csv", *argv, "--classifier", "c", "--threshold", "0.9"]
    assert main([*predict, "--out", "p.csv"]) == 0
    assert read_table("p.csv").columns[3:7] == ["label", "probability", "proba_0", "proba_1"]
    assert main(["queue", "add", "q.db", "p.csv", "--text", "m", "--review-all"]) == 0
    # As pandas writes integers beside missing cells, and as JSON has them.
    lines = [{"id": "000", "label": 1.0}, {"id": "001", "label": "1 "}, {"id": "002", "label": 0}]
    with open("ann.json", "w") as f:
        json.dump(lines, f)
    assert main(["queue", "take-in", "q.db", "ann.json", "--reviewer", "Ann"]) == 0
    assert main(["queue", "label", "q.db", "003", "1.0", "--reviewer", "Ann"]) == 0
    said = {one["id"]: one["label"] for one in ReviewQueue("q.db").labels()}
    assert said == {"000": "1", "001": "1", "002": "0", "003": "1"}
    assert main(["monitor", "start", "m.json", "p.csv", "--label", "l"]) == 0
    assert main(["evaluate", "rows.csv", *argv, "--label", "l", "--classifier", "c"]) == 1
    assert "every row of 'rows.csv' calibrated the classifier" in capsys.readouterr().err


def test_booleans_are_labels_of_one_spelling(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    labels = [True, "true", False, "FALSE"]
    path.write_text(
        "".join(json.dumps({"m": f"text {i}", "l": labels[i % 4]}) + "\n" for i in range(24))
    )
    argv = ["calibrate", str(path), "--text", "m", "--label", "l", "--model", "testing:b"]
    assert main([*argv, "--classes", "true,false", "--out", str(tmp_path / "c"), "--quiet"]) == 0
    card = json.loads((tmp_path / "c" / "card.json").read_text())
    assert card["classes"] == ["False", "True"]


def test_ids_keep_their_zeros_and_never_become_floats(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [{"id": 7, "a": 1}, {"id": None, "a": 3}, {"id": 12, "a": 2}]
    for kind in ("parquet", "xlsx", "json", "csv"):
        write_table(Table(["id", "a"], cells), f"t.{kind}")
        assert read_table(f"t.{kind}").labels("id") == ["7", None, "12"]
