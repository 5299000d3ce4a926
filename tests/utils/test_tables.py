"""Files of rows in every format, whole and broken."""

import builtins
import contextlib
import csv
import datetime
import gzip
import io
import os

import pytest

from skllm_calib.exceptions import MissingDependency
from skllm_calib.utils import tables
from skllm_calib.utils.tables import Table, TableFile, check_format, open_table, write_table

TABLE = Table(["text", "label"], [{"text": 'a, "b"\nc', "label": "x"}, {"text": "ü", "label": "y"}])


def read_table(path):
    """Read a file whole and in pieces, which have to come to the same."""
    found = []
    for read in (tables.read_table, open_table):
        try:
            table = read(path)
            records = list(table.records())
            found.append((table.columns, records, table.n_rows, table.digest, table.path))
        except Exception as error:
            found.append((type(error), str(error)))
    assert found[0] == found[1]
    return tables.read_table(path)


@pytest.mark.parametrize(
    "extension",
    ["csv", "tsv", "json", "jsonl", "ndjson", "parquet", "xlsx", "CSV", "csv.gz", "json.gz"],
)
def test_what_is_written_is_read(tmp_path, extension):
    path = tmp_path / "sub" / f"t.{extension}"
    write_table(TABLE, path)
    assert read_table(path) == TABLE
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o444


def test_missing_cells_numbers_and_mixed_types(tmp_path, capsys):
    mixed = Table(["a", "b"], [{"a": 1, "b": float("nan")}, {"a": "x", "b": None}])
    assert mixed.column("a") == ["1", "x"]
    assert mixed.column("b") == [None, None]
    write_table(mixed, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").column("a") == ["1", "x"]
    date = Table(["d", "e"], [{"d": datetime.date(2026, 1, 2), "e": [1, 2]}, {"d": None}])
    write_table(date, tmp_path / "t.jsonl")
    assert read_table(tmp_path / "t.jsonl").column("d") == ["2026-01-02", None]
    write_table(date, "-")
    assert capsys.readouterr().out == 'd,e\n2026-01-02,"[1, 2]"\n,\n'


def test_a_byte_order_mark_blank_lines_and_long_texts(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\ufefftext,label\nonly,\n\n" + "x" * 200_000 + ",y\n", encoding="utf-8")
    table = read_table(path)
    assert table.columns == ["text", "label"]
    assert table.rows[0] == {"text": "only", "label": ""}
    assert len(table.rows[1]["text"]) == 200_000
    assert [table.name(i) for i in (0, 1)] == ["row 1 (line 2)", "row 2 (line 4)"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "holds no rows"),
        ("t.csv", b"text,label\n", "holds no rows"),
        ("t.csv", b"a,a\n1,2\n", "names a column twice"),
        ("t.csv", b"a,b\n1,2,3\n", r"line 2: 3 cells, but the header names 2 columns"),
        ("t.csv", b"a,b\n1,2\n3\n", r"line 3: 1 cells, but the header names 2 columns"),
        ("t.csv", "a\nüß\n".encode() + b"\xfc\n", "line 3: byte 0xfc is not UTF-8 text"),
        ("t.json", b'{"a": 1}', "is not an array of objects"),
        ("t.json", b"[1]", "is not an object with columns"),
        ("t.json", b'[{"a": 1, "a": 2}]', "names a column twice"),
        ("t.csv.gz", b"a\n1\n", "is not a whole gzip file"),
        ("t.xlsx", b"PK", "is not an Excel file"),
        ("t.csv", b"PK\x03\x04\x00", "holds a .xlsx file: give it this extension"),
        ("t.jsonl", b"PAR1\x00", "holds a .parquet file: give it this extension"),
        ("t.jsonl", b'{"a": 1}\nnot json\n', "line 2 is not JSON"),
        ("t.jsonl", b"\n[1]\n", "line 2 is not an object"),
        ("t.parquet", b"no parquet", "is not a Parquet file"),
        ("t.docx", b"", r"those that work are \.csv, \.tsv, \.json, \.jsonl, .*\.parquet, \.xlsx"),
        ("noext", b"", "has the extension none"),
    ],
)
def test_a_broken_file_is_a_clear_error(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(path)


def test_an_unknown_column_names_those_there_are():
    with pytest.raises(ValueError, match="no column 'txt': the columns are 'text', 'label'"):
        TABLE.column("txt")


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=r"pip install 'skllm-calib\[tables\]'"):
        check_format("t.parquet")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_table(TABLE, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+49 30 12",
        "- no",
        "@here",
        "\tx",
        "\r=1",
        "'=1",
        "\n=1+1",
        "\uff1d1+1",
        "''-x",
        "-inf",
        "--1.5",
        "'tis",
        "-",
    ],
)
def test_no_text_runs_as_a_formula_and_all_come_back(tmp_path, suffix, text):
    path = tmp_path / f"rows{suffix}"
    write_table(Table(["id", "=a", "text"], [{"id": "1", "=a": "-1.5", "text": text}]), path)
    data = path.read_bytes()
    written = (gzip.decompress(data) if suffix.endswith(".gz") else data).decode()
    parts = list(
        csv.reader(io.StringIO(written, newline=""), delimiter="\t" if "tsv" in suffix else ",")
    )
    assert parts[0] == ["id", "'=a", "text"]
    assert parts[1][1] == "-1.5"
    assert parts[1][2][0] not in "=+-@\t\r\n\uff1d"
    assert read_table(path).rows == [{"id": "1", "=a": "-1.5", "text": text}]


@pytest.mark.parametrize("number", ["-1.5", "+3", "-1,5", "-1e-05", "-.5", -1.5, -7])
def test_numbers_stay_numbers(tmp_path, number):
    path = tmp_path / "rows.csv"
    write_table(Table(["n", "m"], [{"n": number, "m": "x"}]), path)
    (_, row) = csv.reader(io.StringIO(path.read_text(), newline=""))
    assert row[0] == str(number)


@pytest.mark.parametrize(
    "name", ["t.csv", "t.tsv", "t.csv.gz", "t.jsonl", "t.jsonl.gz", "t.parquet"]
)
def test_a_large_table_stays_in_its_file(tmp_path, name):
    write_table(Table(["id", "text"], [{"id": i, "text": f"a {i}"} for i in range(2_500)]),
                tmp_path / name)  # fmt: skip
    read_table(tmp_path / name)
    table = open_table(tmp_path / name)
    assert isinstance(table, TableFile)
    with pytest.raises(ValueError, match="no column 'b': the columns are 'id', 'text'"):
        table.check("b")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b'sep=|\r\na|b\r\n1|"x\r\ny"\r\n\r\n2|z\r\n'),
        ("t.csv", b"a;b\r1;2\r3;4"),
        ("t.csv", "a,b\n1,é\n".encode("cp1252")),
        ("t.csv", b"a,b\n1,2\n" * 90_000 + b'3,"x\n4,5\n'),
        ("t.csv", b'a,b\n1,"x\ny" z\n2,3\n'),
        ("t.csv", "a,b\n1,é\n".encode("utf-16")),
        ("t.csv", "a,b\n1,é\n".encode("utf-16-le")),
        ("t.csv", b"\xef\xbb\xbfa,b\n1,2\n"),
        ("t.csv", b"'=a,b\n'=1,'-x\n"),
        ("t.jsonl", b'{"a": 1}\n\n{"b": [1], "a": "x"}\n'),
        ("t.jsonl", b'{"a": 1}\n{"a": 1, "a": 2}\n'),
        ("t.jsonl", b'{"a": 1}\n[1]\n'),
        ("t.csv", b"PAR1"),
        ("t.parquet", b"PAR1 is no more"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*Windows-1252")
def test_in_pieces_a_file_says_the_same(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with contextlib.suppress(ValueError):
        read_table(path)


def test_a_cell_that_is_no_text_is_refused_before_any_row_is_used(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": "x"}\n{"a": [1]}\n')
    with pytest.raises(ValueError, match=r"row 2 \(line 2\) holds a list, .*in column 'a'"):
        open_table(path).check("a")
