"""decide: a policy fitted and kept, rows decided, matrices, and the mistakes one can make."""

import csv
import json
import random

import numpy as np
import pytest

from skllm_calib.backends import PROVIDERS, TestingBackend
from skllm_calib.cli import main
from skllm_calib.decisions import ReviewPolicy, RiskMatrix
from skllm_calib.utils.tables import read_table

RULES = {
    "surely spam": {"spam": 0.97, "ham": 0.03},
    "surely ham": {"spam": 0.03, "ham": 0.97},
    "maybe spam": {"spam": 0.65, "ham": 0.35},
    "maybe ham": {"spam": 0.4, "ham": 0.6},
    "what": {"spam": 0.5, "ham": 0.5},
}
# How often the likelier label is right.
RIGHT = {"surely": 0.99, "maybe": 0.7, "what": 0.5}


def write(path, n, seed, columns=("id", "message", "kind")):
    rng = random.Random(seed)
    with open(path, "w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(columns)
        for i in range(n):
            how = rng.choices(["surely", "maybe", "what"], [7, 2, 1])[0]
            guess = rng.choice(["spam", "ham"])
            other = "ham" if guess == "spam" else "spam"
            kind = guess if rng.random() < RIGHT[how] else other
            text = how if how == "what" else f"{how} {guess}"
            writer.writerow([f"{seed}-{i}", f"{text} ({seed}, {i})", kind][: len(columns)])
    return path


@pytest.fixture(autouse=True)
def informed(monkeypatch):
    monkeypatch.setitem(PROVIDERS, "testing", lambda name: TestingBackend(RULES, name=name))
    return TestingBackend(RULES, name="decide")


@pytest.fixture
def labelled(tmp_path):
    return write(tmp_path / "labelled.csv", 400, 1)


@pytest.fixture
def new(tmp_path):
    return write(tmp_path / "new.csv", 120, 2, ("id", "message"))


@pytest.fixture
def folder(labelled, tmp_path, capsys):
    out = tmp_path / "classifier"
    argv = ["calibrate", str(labelled), "--text", "message", "--label", "kind", "--out", str(out)]
    argv += ["--model", "testing:decide", "--n-rows", "100", "--method", "temperature"]
    assert main([*argv, "--quiet"]) == 0
    capsys.readouterr()
    return out


@pytest.fixture
def decide(folder, labelled, new):
    """Run the command; NEW and ROWS stand for the files."""
    known = {"NEW": str(new), "ROWS": str(labelled)}

    def run(*argv):
        base = ["decide", "--text", "message", "--classifier", str(folder)]
        return main([*base, *(known.get(a, str(a)) for a in argv)])

    return run


FIT = ["--labelled", "ROWS", "--label", "kind"]


def test_a_policy_is_fitted_shown_and_kept(decide, folder, labelled, capsys):
    assert decide(*FIT, "--target-precision", "0.9") == 0
    out, err = capsys.readouterr()
    assert out.startswith("Accept a row when its largest probability is at least")
    assert "Of the 300 labelled rows" in out
    assert "right at least 90% of the time, with 95% confidence" in out
    assert f"Saved to {folder / 'policy.json'}" in out
    assert "Left out 100 rows that calibrated the classifier." in err
    policy = ReviewPolicy.load(folder / "policy.json")
    assert policy.n_labels_ == 300
    assert policy.classes_.tolist() == ["ham", "spam"]
    assert policy.summary() in out
    assert labelled.read_text()[20:200] not in (folder / "policy.json").read_text()


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_rows_are_decided_by_the_policy_that_was_kept(decide, folder, tmp_path, extension, capsys):
    out = tmp_path / f"o.{extension}"
    assert decide(*FIT, "--target-precision", "0.95", "--reject-below", "0.55", "--quiet") == 0
    capsys.readouterr()
    assert decide("NEW", "--out", out) == 0
    table = read_table(out)
    assert table.columns == ["id", "message", "label", "probability", "proba_ham", "proba_spam",
                             "failure", "action", "reason"]  # fmt: skip
    proba = np.array([[float(r["proba_ham"]), float(r["proba_spam"])] for r in table.rows])
    policy = ReviewPolicy.load(folder / "policy.json")
    assert table.column("action") == policy.decide(proba).tolist()
    if extension != "csv":  # which has 6 digits of each probability
        assert table.column("reason") == policy.explain(proba)
    assert table.column("label") == policy.predict(proba).tolist()
    assert [float(r["probability"]) for r in table.rows] == proba.max(axis=1).tolist()
    assert {*table.column("action")} == {"accept", "review", "reject"}
    counts = [table.column("action").count(name) for name in ("accept", "review", "reject")]
    said = "{} accepted, {} to review, {} rejected".format(*counts)
    stdout, err = capsys.readouterr()
    assert (stdout, err) == ("", f"Wrote {out}: 120 rows: {said}\n")
    assert not out.with_name(out.name + ".part").exists()


def test_fitting_and_deciding_at_once_leaves_stdout_to_the_rows(decide, capsys):
    assert decide("NEW", *FIT, "--max-error", "0.1") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("id,message,label,probability,proba_ham,proba_spam,failure,action,")
    assert len(lines) == 121
    assert "Promise: accepted rows are right at least 90%" in err
    assert "120 rows: " in err


def test_another_policy_asks_nothing_again(decide, informed, tmp_path, capsys):
    out = tmp_path / "o.csv"
    assert decide("NEW", *FIT, "--max-reviews", "0.2", "--out", out) == 0
    assert "of new rows go to review" in capsys.readouterr().out
    informed.forget()
    assert decide("NEW", *FIT, "--max-reviews", "30/100", "--out", out) == 0
    assert "at most 30 reviews among 100 new rows" in capsys.readouterr().out
    assert informed.asked.total() == 0


def test_by_cost_the_label_need_not_be_the_likeliest(decide, folder, tmp_path, capsys):
    prices = ["--costs", "10", "--review-cost", "1", "--reject-cost", "0.9"]
    assert decide("NEW", *FIT, *prices, "--out", tmp_path / "o.csv") == 0
    assert "Expected cost" in capsys.readouterr().out
    policy = ReviewPolicy.load(folder / "policy.json")
    assert (policy.costs, policy.review_cost, policy.reject_cost) == (10, 1, 0.9)
    assert {*read_table(tmp_path / "o.csv").column("action")} == {"accept", "reject"}


def test_a_threshold_for_each_label(decide, folder, capsys):
    options = ["--target-precision", "0.9", "--per-class", "--confidence", "0.8"]
    assert decide(*FIT, *options) == 0
    assert "of every class are right at least 90%" in capsys.readouterr().out
    policy = ReviewPolicy.load(folder / "policy.json")
    assert len(policy.evidence_) == 2
    assert policy.confidence == 0.8


def test_what_cannot_be_certified_is_not_kept(decide, folder, tmp_path, capsys):
    out = tmp_path / "o.csv"
    assert decide("NEW", *FIT, "--target-precision", "0.999", "--out", out) == 1
    stdout, err = capsys.readouterr()
    assert stdout == ""
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert line.startswith("skllm-calib: error: not certifiable with these 300 labels: ")
    assert not (folder / "policy.json").exists()
    assert not out.exists()
    # Nor does it replace one that is there.
    assert decide(*FIT, "--target-precision", "0.9") == 0
    kept = (folder / "policy.json").read_text()
    assert decide(*FIT, "--target-precision", "0.999") == 1
    assert (folder / "policy.json").read_text() == kept


def test_how_many_labels_are_missing(decide, tmp_path, capsys):
    few = write(tmp_path / "few.csv", 30, 5)
    assert decide("--labelled", few, "--label", "kind", "--target-precision", "0.95") == 1
    assert "more needed if they look like the present ones" in capsys.readouterr().err


def test_a_policy_of_another_calibration_is_refused(decide, folder, labelled, new, capsys):
    assert decide(*FIT, "--target-precision", "0.9") == 0
    argv = ["calibrate", str(labelled), "--text", "message", "--label", "kind", "--out"]
    argv += [str(folder), "--model", "testing:decide", "--n-rows", "120", "--quiet"]
    assert main(argv) == 0
    capsys.readouterr()
    assert decide("NEW") == 1
    err = capsys.readouterr().err
    assert "was made for another calibration" in err
    assert "pass --labelled FILE --label COL again" in err
    assert decide("NEW", *FIT, "--target-precision", "0.9", "--quiet") == 0
    assert decide("NEW", "--quiet") == 0


def test_a_policy_that_nobody_made_for_this_folder(decide, folder, capsys):
    ReviewPolicy(max_reviews=0.5).fit(None, [0.2, 0.9], classes=["ham", "spam"]).save(
        folder / "policy.json"
    )
    assert decide("NEW") == 1
    assert "was made for another calibration" in capsys.readouterr().err
    for content in ("{", "[]", '{"format": "skllm_calib.ReviewPolicy", "version": 9}', "null"):
        (folder / "policy.json").write_text(content)
        assert decide("NEW") == 1
        err = capsys.readouterr().err
        assert f"{folder / 'policy.json'}: Th" in err
        assert "Make another one with --labelled FILE" in err
        assert err.count("\n") == 1


def test_weights(decide, folder, labelled, tmp_path, capsys):
    table = read_table(labelled)
    weighted = tmp_path / "weighted.csv"
    with open(weighted, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["message", "kind", "w"])
        for i, row in enumerate(table.rows):
            writer.writerow([row["message"], row["kind"], 1 if i % 2 else 0.5])
        writer.writerow(["", "ham", "nonsense"])  # left out
    options = ["--labelled", weighted, "--label", "kind", "--weight", "w", "--max-error", "0.1"]
    assert decide(*options) == 0
    n = ReviewPolicy.load(folder / "policy.json").n_labels_
    assert 190 < n < 260
    assert f"{n} of the 300 labelled rows were drawn by their weight" in capsys.readouterr().err


RULES_FAILING = ("(1, 7)", "(2, 7)")


@pytest.fixture
def failing(folder, monkeypatch):
    monkeypatch.setitem(
        PROVIDERS,
        "testing",
        lambda name: TestingBackend(RULES, name=name, fail_on=RULES_FAILING),
    )


@pytest.mark.usefixtures("failing")
def test_rows_that_fail_go_to_review(decide, tmp_path, capsys):
    out = tmp_path / "o.jsonl"
    assert decide("NEW", *FIT, "--max-error", "0.1", "--out", out, "--cache", "none") == 0
    err = capsys.readouterr().err
    assert "1 of 120 rows failed:\n  row 8 (line 9): the test backend" in err
    assert "(1 of them failed)" in err
    (row,) = [row for row in read_table(out).rows if row["failure"]]
    assert (row["id"], row["label"], row["probability"], row["proba_ham"]) == ("2-7", *[None] * 3)
    assert (row["action"], row["reason"]) == (
        "review",
        "no probabilities: the row was not scored",
    )


@pytest.mark.usefixtures("failing")
def test_on_error_raise_keeps_what_is_done(decide, folder, labelled, informed, tmp_path, capsys):
    raising = ["--cache", "none", "--on-error", "raise"]
    assert decide(*FIT, "--max-error", "0.1", *raising) == 1
    assert not (folder / "policy.json").exists()
    assert "no policy was fitted; pass --on-error nan" in capsys.readouterr().err
    assert decide(*FIT, "--max-error", "0.1") == 0
    out = tmp_path / "o.csv"
    assert decide("NEW", "--out", out, *raising) == 1
    assert "no result was written" in capsys.readouterr().err
    assert not out.exists()
    informed.forget()
    assert decide("NEW", "--out", out, "--cache", "none") == 0
    assert "Going on: 119 of 120 rows are there already." in capsys.readouterr().err
    assert informed.asked.total() == 1


def test_labelled_rows_that_all_fail(decide, folder, monkeypatch, capsys):
    failing = TestingBackend(RULES, name="decide", fail_on=("s",))
    monkeypatch.setitem(PROVIDERS, "testing", lambda name: failing)
    assert decide(*FIT, "--cache", "none", "--quiet") == 1
    assert "none of the 300 rows could be scored" in capsys.readouterr().err


def test_rows_that_fail_may_use_up_the_budget(decide, folder, monkeypatch, capsys):
    failing = TestingBackend(RULES, name="decide", fail_on=("maybe", "what"))
    monkeypatch.setitem(PROVIDERS, "testing", lambda name: failing)
    options = ["--cache", "none", "--quiet"]
    assert decide(*FIT, "--max-reviews", "0.05", *options) == 1
    assert "that alone exceeds the budget of 5" in capsys.readouterr().err
    assert decide(*FIT, "--max-reviews", "5/100", *options) == 1
    assert "that alone exceeds the budget of 5" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(decide, new, tmp_path, monkeypatch, capsys):
    assert decide(*FIT, "--max-error", "0.1") == 0
    out = tmp_path / "o.csv"
    monkeypatch.setattr("skllm_calib.cli.answers.prepare_stream", lambda *_, **__: (
        (_ for _ in ()).throw(KeyboardInterrupt)))  # fmt: skip
    assert decide("NEW", "--out", out) == 130
    assert f"What is done is kept in {out}.part" in capsys.readouterr().err


# -- risk matrices ---------------------------------------------------------------------------------


def matrix(**options):
    return RiskMatrix(
        {"rare": (0, 0.1), "possible": (0.1, 0.4), "likely": (0.4, 1)},
        options.pop("levels", {"minor": 0, "major": 10_000}),
        options.pop("actions", [["accept"] * 2, ["accept", "review"], ["review", "reject"]]),
        **options,
    )


@pytest.fixture
def with_matrix(decide, tmp_path):
    def run(content, *argv):
        path = tmp_path / "matrix.json"
        path.write_text(
            json.dumps(content.to_dict() if isinstance(content, RiskMatrix) else content)
        )
        return decide(*argv, "--risk-matrix", path)

    return run


@pytest.fixture
def with_impact(new, tmp_path):
    table = read_table(new)
    path = tmp_path / "impact.csv"
    with open(path, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(["message", "euro"])
        for i, row in enumerate(table.rows):
            writer.writerow([row["message"], ["50000", "minor", "9999.5", " major "][i % 4]])
    return path


def test_a_matrix_decides_without_a_policy(with_matrix, with_impact, folder, tmp_path, capsys):
    out = tmp_path / "o.csv"
    assert with_matrix(matrix(), with_impact, "--impact", "euro", "--out", out) == 0
    assert not (folder / "policy.json").exists()
    table = read_table(out)
    proba = np.array([[float(r["proba_ham"]), float(r["proba_spam"])] for r in table.rows])
    impact = np.tile(["major", "minor", "minor", "major"], 30)
    assert table.column("action") == matrix().decide(proba, impact).tolist()
    assert {*table.column("action")} == {"accept", "review", "reject"}
    first = table.rows[0]
    assert first["reason"].endswith(f"that '{first['label']}' is wrong), impact 'major'")
    assert first["reason"].startswith("likelihood 'likely' (0.5 that")
    assert "120 rows: " in capsys.readouterr().err


def test_the_matrix_own_impact_event_and_actions(with_matrix, tmp_path, capsys):
    own = matrix(
        impact="major",
        event_class="spam",
        classes=["ham", "spam"],
        actions=[["pass"] * 2, ["pass", "look"], ["look", "stop"]],
        action_order=["pass", "look", "stop"],
    )
    out = tmp_path / "o.csv"
    assert with_matrix(own, "NEW", "--out", out) == 0
    table = read_table(out)
    p = np.array([float(r["proba_spam"]) for r in table.rows])
    expected = np.select([p < 0.1, p < 0.4], ["pass", "look"], "stop").tolist()
    assert table.column("action") == expected
    counts = {name: expected.count(name) for name in ("look", "pass", "stop")}
    said = ", ".join(f"{n} {name}" for name, n in counts.items())
    assert f"120 rows: {said}\n" in capsys.readouterr().err
    assert "that it is 'spam'), impact 'major'" in table.rows[0]["reason"]
    by_class = matrix(impact={"ham": "minor", "spam": "major"})
    assert with_matrix(by_class, "NEW", "--out", out) == 0
    said = {(row["label"], row["reason"].rpartition(" ")[2]) for row in read_table(out).rows}
    assert said == {("ham", "'minor'"), ("spam", "'major'")}


@pytest.mark.parametrize("content", ["(1, 7)", "("])
def test_rows_that_fail_go_to_review_whatever_the_matrix_says(
    with_matrix, folder, monkeypatch, tmp_path, content
):
    pieces = ("(2, 7)",) if content == "(1, 7)" else ("(2",)
    failing = TestingBackend(RULES, name="decide", fail_on=pieces)
    monkeypatch.setitem(PROVIDERS, "testing", lambda name: failing)
    out = tmp_path / "o.jsonl"
    assert with_matrix(matrix(impact=5), "NEW", "--out", out, "--cache", "none") == 0
    failed = [row for row in read_table(out).rows if row["failure"]]
    assert len(failed) == (1 if content == "(1, 7)" else 120)
    assert {(row["action"], row["label"]) for row in failed} == {("review", None)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds a list, where the object of RiskMatrix.to_dict() is needed"),
        ({"actions": []}, "a risk matrix has the keys"),
        ({**matrix().to_dict(), "likelihood_bands": [3]}, "--risk-matrix"),
        ({**matrix().to_dict(), "likelihood_bands": [["rare", 0, 0.5]]}, "must end at 1"),
        (matrix(), "has no impact of its own: name the column that has it with --impact COL"),
        (matrix(impact={"egg": 1, "ham": 2}), "the classes egg, ham, but those of the classifier"),
    ],
)
def test_matrices_that_do_not_fit(with_matrix, content, message, capsys):
    assert with_matrix(content, "NEW") == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_matrix_that_is_no_json(decide, tmp_path, capsys):
    (tmp_path / "m.json").write_text("{")
    assert decide("NEW", "--risk-matrix", tmp_path / "m.json") == 1
    assert "not JSON" in capsys.readouterr().err
    assert decide("NEW", "--risk-matrix", tmp_path / "none.json") == 1
    assert "none.json: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cells", "levels", "message"),
    [
        (
            ["major", ""],
            None,
            "row 2 (line 3) has no impact in column 'euro', where one of the levels",
        ),
        (["major", "dear"], None, "row 2 (line 3) has the impact 'dear'"),
        (["major", "-1"], None, "minor, major, or a number from 0 on"),
        (["nan"], None, "row 1 (line 2) has the impact 'nan'"),
        (["5"], ["minor", "major"], "where one of the levels must be: minor, major\n"),
    ],
)
def test_impacts_that_the_matrix_does_not_know(
    with_matrix, tmp_path, cells, levels, message, informed, capsys
):
    path = tmp_path / "bad.csv"
    path.write_text("message,euro\n" + "".join(f"surely ham {c},{c}\n" for c in cells))
    informed.forget()
    known = matrix() if levels is None else matrix(levels=levels)
    assert with_matrix(known, path, "--impact", "euro") == 1
    assert message in capsys.readouterr().err
    assert informed.asked.total() == 0


# -- mistakes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "nothing to do: pass FILE with rows to decide about, or --labelled FILE"),
        (["NEW"], "make one from labelled rows with --labelled FILE --label COL"),
        (["NEW", "--target-precision", "0.9"], "--target-precision says how to fit a policy"),
        (["NEW", "--per-class"], "--per-class says how to fit a policy, which takes --labelled"),
        (["NEW", "--confidence", "0.8"], "--confidence says how to fit a policy"),
        (["NEW", "--label", "kind"], "--label says how to fit a policy"),
        (["NEW", "--impact", "x"], "--impact goes with --risk-matrix"),
        (["NEW", "--risk-matrix", "m.json", *FIT], "--label is about a policy"),
        (["NEW", "--risk-matrix", "m.json", "--labelled", "ROWS"], "--labelled is about a policy"),
        (["NEW", "--risk-matrix", "m.json", "--costs", "1"], "--costs is about a policy"),
        (["--risk-matrix", "m.json"], "--risk-matrix needs FILE"),
        (["--labelled", "ROWS"], "--labelled needs --label COL"),
        ([*FIT, "--out", "o.csv"], "--out is for decisions: pass FILE"),
        (
            [*FIT, "--costs", "10"],
            "costs needs review_cost, the price of a review. (here: --review-cost)",
        ),
        ([*FIT, "--review-cost", "10"], "it belongs to costs. (here: --review-cost)"),
        (
            [*FIT, "--max-reviews", "0.1", "--reject-cost", "1"],
            "together with max_reviews: it belongs to costs",
        ),
        ([*FIT, "--max-reviews", "0.1", "--per-class"], "(here: --per-class)"),
        (
            [*FIT, "--costs", "9", "--review-cost", "1", "--reject-below", "0.2"],
            "means nothing together with costs: it belongs to target_precision",
        ),
        ([*FIT, "--weight", "w"], "no column 'w'"),
        (["--labelled", "ROWS", "--label", "egg"], "no column 'egg'"),
        (["NEW", *FIT, "--out", "NEW"], "is the file that is read"),
        (["NEW", *FIT, "--out", "ROWS"], "is the file that is read"),
        (["NEW", *FIT, "--out", "o.docx"], "has the extension .docx"),
        (["NEW", "--labelled", "nowhere.csv", "--label", "kind"], "nowhere.csv: No such file"),
    ],
)
def test_contradictions_cost_no_question(decide, informed, argv, message, capsys):
    informed.forget()
    assert decide(*argv) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert informed.asked.total() == 0


def test_labels_that_the_classifier_does_not_know(decide, tmp_path, capsys):
    path = tmp_path / "odd.csv"
    path.write_text("message,kind\nsurely ham,ham\nmaybe ham,egg\n")
    assert decide("--labelled", path, "--label", "kind") == 1
    assert (
        "row 2 (line 3) has the label 'egg', which the classifier does not know"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "options",
    [
        ["--target-precision", "95"],
        ["--max-error", "x"],
        ["--max-reviews", "400/50"],
        ["--max-reviews", "1.5"],
        ["--max-reviews", "-1/5"],
        ["--costs", "0"],
        ["--review-cost", "inf"],
        ["--max-error", "0.1", "--max-reviews", "0.1"],
    ],
)
def test_options_that_make_no_sense(decide, options, capsys):
    with pytest.raises(SystemExit) as stop:
        decide(*FIT, *options)
    assert stop.value.code == 2
    assert options[-2] in capsys.readouterr().err.splitlines()[1]
