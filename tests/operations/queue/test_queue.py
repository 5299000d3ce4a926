from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from skllm_calib.exceptions import BadLines, InvalidInput
from skllm_calib.operations.queue import ReviewQueue

CLASSES = ["ham", "spam"]


def row(name, p=0.7, action="review", **more):
    return {"id": name, "text": f"text {name}", "proba": [1 - p, p], "action": action, **more}


@pytest.fixture
def queue(tmp_path):
    return ReviewQueue(tmp_path / "deep" / "queue.sqlite", classes=CLASSES)


def everything(queue):
    path = queue.path.with_suffix(".dump")
    queue.write_rows(path)
    return path.read_text()


def ids(rows):
    return [found["id"] for found in rows]


# Rows


def test_a_row_comes_back_as_it_was(queue):
    proba = {"spam": 0.25, "ham": 0.75}
    evidence = {"why": ["ä", None, 1.5]}
    queue.add([row(7) | {"proba": proba, "evidence": evidence, "reason": "unsure"}])
    (found,) = queue.waiting()
    assert found == {
        "id": "7",
        "text": "text 7",
        "label": "ham",
        "proba": {"ham": 0.75, "spam": 0.25},
        "action": "review",
        "evidence": evidence,
        "reason": "unsure",
        "audit": False,
    }
    assert list(found["proba"]) == ["ham", "spam"]


def test_adding_twice_changes_nothing(queue):
    rows = [row(i, action=a) for i, a in enumerate(["review", "accept", "reject"] * 20)]
    assert queue.add(rows)[:3] == (60, 0, 0)
    before = everything(queue)
    assert queue.add(reversed(rows))[:3] == (0, 60, 0)
    ReviewQueue(queue.path, audit_share=0.9).add(rows)  # the old rows remember their share
    assert everything(queue) == before


def test_a_changed_row_is_an_error_that_names_it(queue):
    queue.add([row("a"), row("b")])
    with pytest.raises(ValueError, match=r"id 'b'.*another proba.*replace=True"):
        queue.add([row("new"), row("b", p=0.6)])
    assert ids(queue.waiting(order="added")) == ["a", "b"]  # all or nothing
    assert queue.add([row("b", p=0.6)], replace=True) == (0, 0, 1, 0)
    assert queue.waiting(order="added")[1]["proba"]["spam"] == pytest.approx(0.6)


def test_labels_stay_with_the_text_they_are_about(queue):
    queue.add([row("a"), row("b")])
    queue.add_label("a", "ham", reviewer="A")
    queue.add_label("b", "ham", reviewer="A")
    queue.add([row("a", p=0.8), row("b") | {"text": "something else"}], replace=True)
    assert [(said["id"], said["label"]) for said in queue.labels()] == [("a", "ham")]
    assert ids(queue.waiting()) == ["b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"proba": [0.5, 0.6]}, "row 1 .*'x'.*sum to 1"),
        ({"proba": [1.0]}, "must hold 2 probabilities"),
        ({"proba": {"ham": 1.0}}, "no probability of the class 'spam'"),
        ({"proba": {"ham": 0.5, "eggs": 0.5}}, "'eggs' is not one of the classes"),
        ({"proba": [float("nan"), 1.0]}, "must hold 2 probabilities that sum to 1"),
        ({"proba": None, "action": "accept"}, "without probabilities cannot be accepted"),
        ({"action": "pass"}, "action must be 'accept', 'review' or 'reject', got 'pass'"),
        ({"label": "eggs"}, "'eggs' is not one of the classes"),
        ({"text": None}, "text must be a string, got None"),
        ({"text": "\ud800"}, "cannot be stored as JSON"),
        ({"evidence": {1, 2}}, "cannot be stored as JSON"),
        ({"evidence": float("inf")}, "cannot be stored as JSON"),
        ({"reason": 3}, "reason must be a string, got 3"),
        ({"id": ""}, "id is empty"),
        ({"id": 1.5}, "id must be a printable text or an integer, got 1.5"),
        ({"id": "a\nb"}, "id must be a printable text"),
        ({"evidance": 1}, "'evidance' is not a key of a row"),
    ],
)
def test_bad_rows(queue, change, message):
    with pytest.raises(ValueError, match=message):
        queue.add([row("good"), row("x") | change])
    assert queue.waiting() == []


def test_an_error_knows_key_row_and_value(queue):
    with pytest.raises(InvalidInput) as caught:
        queue.add([row("good"), row("row 99") | {"action": "pass"}])
    error = caught.value
    assert (error.parameter, error.row, error.value) == ("action", 1, "pass")
    assert str(error).startswith("row 1 (id 'row 99'): action must be")


def test_what_is_no_row(queue):
    with pytest.raises(ValueError, match="'text' is missing"):
        queue.add([{"id": 1}])
    with pytest.raises(ValueError, match="not a single mapping"):
        queue.add(row("a"))
    with pytest.raises(ValueError, match=r"row 0.*must be a mapping, got int"):
        queue.add([1])


def test_a_row_without_probabilities_is_the_most_doubtful(queue):
    queue.add([row("sure"), row("failed") | {"proba": [np.nan, np.nan]}])
    first = queue.waiting()[0]
    assert (first["id"], first["proba"], first["label"]) == ("failed", None, None)
    queue.add_label("failed", "ham", reviewer="A")
    assert queue.export().ids == []
    assert queue.statistics().n_done == 1
    assert np.isnan(queue.statistics().agreement)


def test_a_data_frame(queue):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame([row(1), row(2)])
    assert queue.add(frame) == (2, 0, 0, 2)
    assert queue.add([row(1), row(2)]) == (0, 2, 0, 0)


@pytest.mark.parametrize("classes", [[0, 1, 2], [False, True], ["a", "b"]])
def test_classes_keep_their_type(tmp_path, classes):
    queue = ReviewQueue(tmp_path / "q", classes=np.array(classes))
    queue.add([{"id": 1, "text": "", "proba": np.eye(len(classes))[1], "action": "review"}])
    queue.add_label(1, str(classes[0]), reviewer="A")
    again = ReviewQueue(tmp_path / "q")
    assert again.classes.tolist() == classes
    assert again.export().y.tolist() == [classes[0]]
    assert again.export().y.dtype == np.array(classes).dtype


# Order


def test_orders(queue):
    queue.add([row("a", 0.9), row("b", 0.6), row("c", 0.4), row("d", 0.75)])
    assert ids(queue.waiting()) == ["b", "c", "d", "a"]
    assert ids(queue.waiting(2)) == ["b", "c"]
    assert ids(queue.waiting(order="added")) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="order must be 'doubt' or 'added', got 'x'"):
        queue.waiting(order="x")
    with pytest.raises(ValueError, match="n must be an integer"):
        queue.waiting(-1)


def test_rows_can_be_left_out(queue):
    queue.add([row("a", 0.9), row("b", 0.6), row("c", 0.4), row("d", 0.75)])
    for order, expected in (("doubt", ["c", "a"]), ("added", ["a", "c"])):
        assert ids(queue.waiting(2, order=order, exclude={"b", "d", "z"})) == expected


def test_the_audit_is_mixed_in_evenly_however_rows_are_taken(tmp_path):
    queue = ReviewQueue(tmp_path / "q", classes=CLASSES, audit_share=1.0)
    rng = np.random.default_rng(0)
    queue.add([row(f"r{i}", p) for i, p in enumerate(rng.uniform(0.5, 0.9, 40))])
    queue.add([row(f"a{i}", p, "accept") for i, p in enumerate(rng.uniform(0.9, 1, 10))])
    at_once = ids(queue.waiting())
    one_by_one = []
    while rows := queue.waiting(1):
        one_by_one += ids(rows)
        queue.add_label(rows[0]["id"], "ham", reviewer="A")
    assert one_by_one == at_once
    for start in range(0, 50, 10):
        assert sum(name[0] == "a" for name in at_once[start : start + 10]) == 2
    audited = [name for name in at_once if name[0] == "a"]
    assert audited != sorted(audited, key=lambda name: int(name[1:]))


# Labels


def test_two_reviewers_do_not_overwrite_each_other(queue):
    queue.add([row("a"), row("b")])
    assert queue.add_label("a", "ham", reviewer="A")
    assert queue.add_label("a", "spam", reviewer=" B ")
    assert not queue.add_label("a", "spam", reviewer="B")
    (dispute,) = queue.disputed()
    assert (dispute["id"], dispute["labels"]) == ("a", {"A": "ham", "B": "spam"})
    assert queue.export().ids == []
    assert queue.statistics().n_disputed == 1
    assert ids(queue.waiting()) == ["b"]
    queue.add_label("a", "ham", reviewer="C", final=True)
    assert not queue.add_label("a", "ham", reviewer="C")  # final stays final
    assert queue.disputed() == []
    assert queue.export().y.tolist() == ["ham"]
    assert len(queue.labels()) == 3
    assert queue.undo("C") == ("a", "ham")
    assert len(queue.disputed()) == 1
    queue.add_label("a", "ham", reviewer="B")  # changes their mind
    assert queue.disputed() == []


def test_undo_goes_back_step_by_step(queue):
    queue.add([row("a"), row("b")])
    queue.add_label("a", "ham", reviewer="A")
    queue.add_label("b", "ham", reviewer="A")
    queue.add_label("a", "spam", reviewer="A")
    queue.add_label("b", "spam", reviewer="B")
    assert queue.last_label(" A") == ("a", "spam")
    assert queue.undo("A") == ("a", "spam")
    assert queue.last_label("A") == ("b", "ham")
    assert {said["id"]: said["label"] for said in queue.labels() if said["reviewer"] == "A"} == {
        "a": "ham",
        "b": "ham",
    }
    assert queue.undo("A") == ("b", "ham")
    assert queue.undo("A") == ("a", "ham")
    assert queue.undo("A") is None
    assert ids(queue.waiting()) == ["a"]


def test_bad_labels(queue):
    queue.add([row("a")])
    with pytest.raises(
        ValueError, match=r"label 'eggs' is not one of the classes \['ham', 'spam'\]"
    ):
        queue.add_label("a", "eggs", reviewer="A")
    with pytest.raises(ValueError, match="id 'z' is not in the queue"):
        queue.add_label("z", "ham", reviewer="A")
    with pytest.raises(ValueError, match="reviewer must be a name, got ' '"):
        queue.add_label("a", "ham", reviewer=" ")
    assert queue.labels() == []


def test_statistics_and_export(tmp_path):
    queue = ReviewQueue(tmp_path / "q", classes=CLASSES, audit_share=0.25)
    queue.add([row(f"r{i}", p) for i, p in enumerate([0.6, 0.7, 0.3])])
    queue.add([row(f"a{i}", 0.99, "accept") for i in range(100)])
    queue.add([row("no", action="reject")])
    audited = [found["id"] for found in queue.waiting() if found["audit"]]
    assert 10 < len(audited) < 40
    for name, label in [("r0", "spam"), ("r1", "ham"), ("r2", "ham"), (audited[0], "spam")]:
        queue.add_label(name, label, reviewer="A")
    outside = next(f"a{i}" for i in range(100) if f"a{i}" not in audited)
    for name in (outside, "no"):  # nobody asked: kept, but of no weight
        queue.add_label(name, "ham", reviewer="A")
    stats = queue.statistics()
    assert (stats.n_rows, stats.n_accepted, stats.n_review, stats.n_rejected) == (104, 100, 3, 1)
    assert (stats.n_done, stats.n_waiting) == (4, len(audited) - 1)
    assert (stats.n_audit_done, stats.n_audit_waiting) == (1, len(audited) - 1)
    assert stats.by_class == {"ham": (1, 1), "spam": (3, 2)}
    assert stats.agreement == 0.75
    rows = queue.export()
    assert rows.ids == ["r0", "r1", "r2", audited[0]]
    assert rows.texts[0] == "text r0"
    assert rows.y.tolist() == ["spam", "ham", "ham", "spam"]
    assert rows.sample_weight.tolist() == [1, 1, 1, 4]
    np.testing.assert_allclose(rows.proba[:, 1], [0.6, 0.7, 0.3, 0.99])


def test_an_empty_export_has_its_shape(queue):
    assert queue.export().proba.shape == (0, 2)
    assert queue.export().y.dtype == np.array(CLASSES).dtype


# Files


def test_rows_by_file_and_back(queue, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [row(i, action=a, evidence=[i]) for i, a in enumerate(["review", "accept"] * 5)]
    path.write_text("\n\n".join(json.dumps(r) for r in rows))
    assert queue.read_rows(path)[:3] == (10, 0, 0)
    queue.add_label(0, "ham", reviewer="A")
    assert queue.write_rows(tmp_path / "out.jsonl") == 10
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (first["final_label"], first["labels"][0]["reviewer"]) == ("ham", "A")
    other = ReviewQueue(tmp_path / "other", classes=CLASSES)
    assert other.read_rows(tmp_path / "out.jsonl")[:3] == (10, 0, 0)
    assert other.add(rows)[:3] == (0, 10, 0)


def test_bad_lines_are_named_and_good_ones_kept(queue, tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [
        json.dumps(row("a")).encode(),
        b"{not json",
        b'{"id": ' + b"9" * 5000 + b"}",
        b"[1]",
        b'{"id": "\xff"}',
        json.dumps(row("b") | {"action": "x"}).encode(),
        json.dumps(row("a", p=0.9)).encode(),
        json.dumps(row("c")).encode(),
    ]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    with pytest.raises(BadLines, match=r"6 bad line.*2 good.*\nline 2: not JSON") as caught:
        queue.read_rows(path)
    assert [number for number, _ in caught.value.errors] == [2, 3, 4, 5, 6, 7]
    assert caught.value.errors[3][1] == "not UTF-8"
    assert ids(queue.waiting(order="added")) == ["a", "c"]
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.errors) == (str(caught.value), caught.value.errors)


def test_many_bad_lines_are_not_all_shown(queue, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("no\n" * 20)
    with pytest.raises(BadLines, match=r"line 5: .*\nand 15 more") as caught:
        queue.read_rows(path)
    assert len(caught.value.errors) == 20


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_sheet_is_written_filled_in_and_read(queue, tmp_path, suffix):
    queue.add([row("a"), row("b"), row("c") | {"text": '=HYPERLINK("x"),\n"q"'}])
    path = tmp_path / f"sheet.{suffix}"
    assert queue.write_waiting(path, order="added") == 3
    if suffix == "csv":
        with open(path, newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
        assert table[2]["text"].startswith("'=HYPER")
        assert table[0]["proposed"] == "spam"
    else:
        table = [json.loads(line) for line in path.read_text().splitlines()]
    assert queue.read_labels(path, reviewer="A") == 0  # nothing is filled in yet
    table[0]["label"], table[2]["label"], table[2]["reviewer"] = "ham", "spam", "B"
    with open(path, "w", newline="", encoding="utf-8") as file:
        if suffix == "csv":
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(table)
        else:
            file.writelines(json.dumps(line) + "\n" for line in table)
    assert queue.read_labels(path, reviewer="A") == 2
    assert queue.read_labels(path, reviewer="A") == 0
    said = [(found["id"], found["label"], found["reviewer"]) for found in queue.labels()]
    assert said == [("a", "ham", "A"), ("c", "spam", "B")]


def test_bad_lines_of_labels(queue, tmp_path):
    queue.add([row("a"), row("b")])
    path = tmp_path / "labels.csv"
    path.write_text("id,label\na,ham\nb,eggs\nz,ham\nb\nb,spam\n")
    with pytest.raises(BadLines, match=r"(?s)'eggs' is not.*line 4: id 'z'.*1 cells") as caught:
        queue.read_labels(path, reviewer="A")
    assert [number for number, _ in caught.value.errors] == [3, 4, 5]
    assert caught.value.n_good == 2
    assert len(queue.labels()) == 2
    path.write_text("id;label\na;ham\n")
    with pytest.raises(BadLines, match="line 1: the header has no column 'id'"):
        queue.read_labels(path, reviewer="A")
    path = tmp_path / "labels.jsonl"
    path.write_text('{"id": "a", "label": "spam"}\n{"id": "a"}\n')
    with pytest.raises(
        BadLines, match=r"(?s)line 1: reviewer must be a name.*line 2: it must name"
    ):
        queue.read_labels(path)


def test_broken_csv(queue, tmp_path):
    queue.add([row("a"), row("b")])
    path = tmp_path / "labels.csv"
    path.write_bytes(b'id,label,note\na,ham,\xff\n\nb,"sp"am,x\nb,spam,"two\nlines"\na,"ham')
    with pytest.raises(BadLines) as caught:
        queue.read_labels(path, reviewer="A")
    assert [number for number, _ in caught.value.errors] == [2, 4, 7]
    assert caught.value.errors[0][1] == "not UTF-8"
    assert caught.value.errors[1][1].startswith("not CSV")
    assert [(said["id"], said["label"]) for said in queue.labels()] == [("b", "spam")]
    path.write_text("")
    with pytest.raises(BadLines, match="line 1: the header has no column 'id'"):
        queue.read_labels(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    from skllm_calib.operations.queue.files import write_lines

    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_lines(path, [{"a": 1}, {"a": object()}])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.jsonl"]


# The file


def test_opening(tmp_path, queue):
    with pytest.raises(ValueError, match=r"no queue at .*pass classes="):
        ReviewQueue(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match=r"\['a', 'b'\] differ from those of the queue"):
        ReviewQueue(queue.path, classes=["a", "b"])
    with pytest.raises(ValueError, match=r"classes must be sorted"):
        ReviewQueue(tmp_path / "new", classes=["b", "a"])
    with pytest.raises(ValueError, match=r"audit_share must be a number in \[0, 1\], got 2"):
        ReviewQueue(queue.path, audit_share=2)
    assert ReviewQueue(queue.path).audit_share == 0.05
    ReviewQueue(queue.path, audit_share=0.5)
    assert ReviewQueue(queue.path).audit_share == 0.5
    assert pickle.loads(pickle.dumps(queue)).path == queue.path
    assert str(queue.path) in repr(queue)


def test_files_of_something_else(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("These are notes. " * 100)
    with pytest.raises(ValueError, match=r"notes.txt' cannot be used as a review queue"):
        ReviewQueue(notes, classes=CLASSES)
    assert notes.read_text().startswith("These are notes")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = other.read_bytes()
    with pytest.raises(ValueError, match="but not a review queue"):
        ReviewQueue(other, classes=CLASSES)
    assert other.read_bytes() == before


HAMMER = """
import sys
from skllm_calib.operations.queue import ReviewQueue
path, me = sys.argv[1:]
queue = ReviewQueue(path, classes=["ham", "spam"], audit_share=0.5)
for i in range(20):
    shared = {"id": f"s{i}", "text": "t", "proba": [0.4, 0.6], "action": "review"}
    queue.add([shared, {**shared, "id": f"{me}-{i}"}])
    queue.add_label(f"s{i}", ["ham", "spam"][i % 2 == 0 and me == "1"], reviewer=me)
    queue.add_label(f"{me}-{i}", "ham", reviewer=me)
"""


def test_two_processes(tmp_path):
    path = tmp_path / "q.sqlite"
    command = [sys.executable, "-W", "error", "-c", HAMMER, str(path)]
    workers = [subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE) for i in range(2)]
    assert [worker.communicate()[1] for worker in workers] == [b""] * 2
    queue = ReviewQueue(path)
    assert queue.statistics().n_rows == 60
    assert len(queue.labels()) == 80
    assert set(ids(queue.disputed())) == {f"s{i}" for i in range(0, 20, 2)}
    assert queue.waiting() == []


WRITE = """
import itertools, sys
from skllm_calib.operations.queue import ReviewQueue
queue = ReviewQueue(sys.argv[1], classes=["ham", "spam"])
for i in itertools.count():
    rows = [{"id": f"{i}-{j}", "text": "t", "proba": [0.4, 0.6], "action": "review"}
            for j in range(5)]
    queue.add(rows)
    queue.add_label(f"{i}-0", "ham", reviewer="A")
    print(i, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_loses_nothing_and_leaves_nothing_half_done(tmp_path):
    path = tmp_path / "q.sqlite"
    command = [sys.executable, "-c", WRITE, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        for _ in range(20):
            worker.stdout.readline()
        os.kill(worker.pid, signal.SIGKILL)
        rest = worker.stdout.read().split()
    last = int(rest[-1]) if rest else 19
    queue = ReviewQueue(path)
    labelled = {said["id"] for said in queue.labels()}
    assert {f"{i}-0" for i in range(last + 1)} <= labelled
    assert queue.statistics().n_rows % 5 == 0
    assert queue.statistics().n_rows // 5 - len(labelled) in (0, 1)
    queue.add([row("after")])
    assert "after" in ids(queue.waiting())
