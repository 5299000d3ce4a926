"""CalibrationReport: its figures are those of the metrics, its page is safe and whole."""

import json
import re
from collections import defaultdict
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skllm_calib import (
    CalibratedLLMClassifier,
    CalibrationReport,
    LLMClassifier,
    LLMEnsembleClassifier,
    ReviewClassifier,
    ReviewPolicy,
    RiskMatrix,
    expected_calibration_error,
)
from skllm_calib.datasets import load_messages
from skllm_calib.log_proba import matrices, validation
from skllm_calib.metrics import aurc, brier_score
from skllm_calib.operations.report.words import limits

NAMES = np.array(["animals & <plants>", "chemicals", "textiles"])
HOLES = np.full((900, 3), 1 / 3)
HOLES[3] = np.nan
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "path", "rect", "use"}


@pytest.fixture
def rows():
    """Three classes, calibrated by construction; before, twice too sure."""
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([0.6, 0.6, 0.6], 900)
    y = np.array([rng.choice(NAMES, p=row) for row in proba])
    before = proba**2 / (proba**2).sum(axis=1, keepdims=True)
    return y, proba, before


@pytest.fixture
def html_of(monkeypatch):
    """Lay out the page around empty pictures: to draw them takes seconds."""
    monkeypatch.setattr(
        "skllm_calib.operations.report.report.charts_of",
        lambda rows: defaultdict(lambda: "<svg></svg>"),
    )
    return lambda report: report.to_html()


class Whole(HTMLParser):
    """Collects tags, ids and texts, and tells whether every element is closed in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.links, self.open, self.text = [], [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def _note(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src", "xlink:href") if name in given]


def test_the_figures_are_those_of_the_metrics(rows):
    y, proba, before = rows
    figures = CalibrationReport.from_predictions(y, proba, before=before).figures
    for name, p in (("before", before), ("after", proba)):
        found = figures[name]
        assert found["accuracy"] == pytest.approx((NAMES[p.argmax(1)] == y).mean())
        assert found["mean_confidence"] == pytest.approx(p.max(1).mean())
        assert found["log_loss"] == pytest.approx(log_loss(y, p))
        assert found["brier"] == pytest.approx(brier_score(y, p))
        ece = expected_calibration_error(y, p, n_bins=10, strategy="quantile")
        assert found["ece"] == pytest.approx(ece)
        assert found["ece_low"] <= found["ece_high"]
        assert found["aurc"] == pytest.approx(aurc(y, p))
        bins = figures["reliability"][name]
        assert sum(one["n"] for one in bins) == 900
        gaps = [one["n"] / 900 * abs(one["accuracy"] - one["mean_confidence"]) for one in bins]
        assert sum(gaps) == pytest.approx(ece)
    assert figures["after"]["ece"] < figures["before"]["ece"]
    counts = confusion_matrix(y, NAMES[proba.argmax(1)])
    assert figures["confusion"]["counts"] == counts.tolist()
    for code, one in enumerate(figures["by_class"]):
        assert one["n"] == counts[code].sum()
        assert one["recall"] == pytest.approx(counts[code, code] / counts[code].sum())
        assert one["precision"] == pytest.approx(counts[code, code] / counts[:, code].sum())
        assert one["mean_probability"] == pytest.approx(proba[:, code].mean())
    assert figures["risk_coverage"][-1]["coverage"] == 1
    assert figures["risk_coverage"][-1]["risk"] == pytest.approx(1 - figures["after"]["accuracy"])
    for one in figures["review_cost"]:
        accepted = proba.max(1) >= 1 - one["price"] - 1e-12
        cost = np.where(accepted, NAMES[proba.argmax(1)] != y, one["price"]).mean()
        assert one["after"] == pytest.approx(cost)
        assert one["review_share"] == pytest.approx(1 - accepted.mean())


def test_the_rows_are_checked_once(rows, monkeypatch):
    y, proba, before = rows
    read, n_reads = matrices.read_proba_table, []
    for module in (matrices, validation):
        monkeypatch.setattr(
            module,
            "read_proba_table",
            lambda *given, **named: n_reads.append(1) or read(*given, **named),
        )
    report = CalibrationReport.from_predictions(y, proba)
    report.to_dict()
    assert len(n_reads) == 1
    CalibrationReport.from_predictions(y, proba, before=before, policy=ReviewPolicy(0.8)).to_dict()
    assert len(n_reads) == 3


def test_thresholds_are_certified_or_tell_what_is_missing(rows):
    y, proba, _ = rows
    report = CalibrationReport.from_predictions(y, proba, targets=(0.7, 0.9, 0.999), confidence=0.9)
    low, middle, high = report.figures["thresholds"]
    policy = ReviewPolicy(0.7, confidence=0.9).fit(y, proba)
    assert low["threshold"] == policy.thresholds_[0]
    assert low["coverage"] == policy.coverage_ > middle["coverage"]
    assert low["n_errors"] <= 0.3 * low["n_accepted"]
    assert high["threshold"] is None
    assert high["n_accepted"] == 0
    assert "of the rows can be accepted" in str(report)
    nothing = CalibrationReport.from_predictions(y, proba, targets=(0.999,))
    assert "without review: not even a precision of 100" in str(nothing)
    assert "No target precision was given" in str(
        CalibrationReport.from_predictions(y, proba, targets=())
    )


def test_the_page_is_whole_and_safe(rows):
    pytest.importorskip("matplotlib")
    y, proba, before = rows
    texts = [f'<script>alert({i})</script> "quoted" https://evil.example/{i}' for i in range(900)]
    ids = [f"<b>{i}" for i in range(900)]
    html, again = (
        CalibrationReport.from_predictions(
            y, proba, before=before, texts=texts, ids=ids, title="A <b>"
        ).to_html()
        for _ in range(2)
    )
    assert html == again
    page = Whole(html)
    assert "script" not in page.tags
    assert len(page.ids) == len(set(page.ids))
    anchors = [link for link in page.links if link.startswith("#")]
    assert {link[1:] for link in anchors} <= set(page.ids)
    assert set(page.links) - set(anchors) == {"data:,"}  # nothing is fetched
    assert not re.search(r"url\((?!#)|@import", html)
    assert "Content-Security-Policy" in html
    text = "".join(page.text)
    assert "<script>alert(" in text  # shown as the text it is
    assert html.count('role="img"') == 6
    for heading in ("In short", "Reliability", "Rows to look at", "Limits", "animals & <plants>"):
        assert heading in text
    # Colours follow the page: none is left in the pictures.
    pictures = "".join(re.findall(r"<svg.*?</svg>", html, re.S))
    assert not re.search(r"#[0-9a-fA-F]{6}\b", pictures)
    assert "var(--first)" in pictures


def test_json_is_strict_and_has_texts_only_when_asked(rows, tmp_path):
    y, proba, before = rows
    texts = [f"secret {i}" for i in range(900)]
    report = CalibrationReport.from_predictions(y, proba, before=before, texts=texts)
    content = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert content["format"] == "skllm_calib.CalibrationReport"
    assert content["data"] == {
        "n": 900,
        "n_failed": 0,
        "classes": NAMES.tolist(),
        "weighted": False,
        "n_by_class": [int((y == name).sum()) for name in NAMES],
    }
    assert "secret" not in report.to_json()
    assert report.to_json(texts=True).count("secret") == 20
    report.save(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == report.to_json()
    with pytest.raises(ValueError, match=r"'report.pdf' must end in .html or .json"):
        report.save("report.pdf")


def test_saving_the_page(rows, tmp_path, html_of):
    y, proba, _ = rows
    report = CalibrationReport.from_predictions(y, proba)
    report.save(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == html_of(report)
    framed = report._repr_html_()
    assert framed.startswith("<iframe")
    assert "sandbox" in framed
    assert repr(report).startswith("<CalibrationReport: 900 rows, accuracy ")


def test_worst_and_doubtful_rows(rows, html_of):
    y, proba, _ = rows
    report = CalibrationReport.from_predictions(y, proba, n_rows=4)
    listed = report.figures["rows"]
    wrong = NAMES[proba.argmax(1)] != y
    worst = [one["probability"] for one in listed["worst"]]
    assert worst == sorted(proba.max(1)[wrong], reverse=True)[:4]
    assert [one["probability"] for one in listed["doubtful"]] == sorted(proba.max(1))[:4]
    first = listed["worst"][0]
    row = int(first["id"])
    assert first["true"] == y[row] != first["predicted"]
    assert first["second_probability"] == pytest.approx(np.sort(proba[row])[-2])
    assert first["text"] is None
    assert "The most confident errors" in html_of(report)
    perfect = CalibrationReport.from_predictions([0, 1] * 20, [0.02, 0.97] * 20, n_rows=0)
    assert "No row is wrong." in html_of(perfect)


def test_failed_rows_are_counted_named_and_left_out(rows, html_of):
    y, proba, before = rows
    proba, before = proba.copy(), before.copy()
    proba[[3, 8]] = before[[3, 8]] = np.nan
    texts = [f"text {i}" for i in range(900)]
    report = CalibrationReport.from_predictions(
        y, proba, before=before, texts=texts, failures={8: "refused by <the> provider"}
    )
    keep = np.setdiff1d(np.arange(900), [3, 8])
    assert report.figures["data"]["n"] == 898
    assert report.figures["after"]["log_loss"] == pytest.approx(log_loss(y[keep], proba[keep]))
    assert report.figures["rows"]["failed"] == [
        {"id": "3", "text": "text 3", "reason": "no probabilities"},
        {"id": "8", "text": "text 8", "reason": "refused by <the> provider"},
    ]
    assert "Not scored and in none of these figures: 2 rows." in str(report)
    assert "refused by &lt;the&gt; provider" in html_of(report)
    with pytest.raises(ValueError, match="None of the 900 rows has probabilities"):
        CalibrationReport.from_predictions(y, np.full_like(proba, np.nan), labels=NAMES)


def test_weights_count_as_rows(rows):
    y, proba, before = rows
    weight = np.random.default_rng(1).integers(0, 3, 900)
    twice = np.repeat(np.arange(900), weight)
    weighted = CalibrationReport.from_predictions(y, proba, before=before, sample_weight=weight)
    repeated = CalibrationReport.from_predictions(y[twice], proba[twice], before=before[twice])
    for side in ("before", "after", "class_shares"):
        for name in ("accuracy", "mean_confidence", "log_loss", "brier", "aurc"):
            found, expected = weighted.figures[side][name], repeated.figures[side][name]
            assert found == pytest.approx(expected)
    for one, other in zip(weighted.figures["by_class"], repeated.figures["by_class"], strict=True):
        assert one["precision"] == pytest.approx(other["precision"])
        assert one["share"] == pytest.approx(other["share"])
    assert weighted.figures["data"]["n"] == (weight > 0).sum()
    assert weighted.figures["data"]["weighted"]


def test_a_policy_is_tested_on_the_rows_or_fitted_on_them(rows, html_of):
    y, proba, _ = rows
    policy = ReviewPolicy(0.8).fit(y[:500], proba[:500])
    tested = CalibrationReport.from_predictions(y[500:], proba[500:], policy=policy)
    found = tested.figures["policy"]
    actions = policy.decide(proba[500:])
    assert found["n_by_action"] == {n: int((actions == n).sum()) for n in found["n_by_action"]}
    assert not found["saw_these_rows"]
    assert 0.5 < found["precision_lower_bound"] < 1
    assert "Promise: accepted rows are right at least 80%" in html_of(tested)
    fitted = CalibrationReport.from_predictions(y, proba, policy=ReviewPolicy(0.8))
    assert fitted.figures["policy"]["saw_these_rows"]
    assert fitted.figures["policy"]["precision_lower_bound"] is None
    assert "fitted on these rows" in html_of(fitted)
    same = CalibrationReport.from_predictions(y, proba, policy=policy, policy_saw_rows=True)
    assert same.figures["policy"]["precision_lower_bound"] is None
    out_of_reach = CalibrationReport.from_predictions(y, proba, policy=ReviewPolicy(0.9999))
    assert out_of_reach.figures["policy"]["n_by_action"]["accept"] == 0
    with pytest.raises(ValueError, match="the policy was fitted for the classes"):
        CalibrationReport.from_predictions([0, 1], [0.2, 0.7], policy=policy)


def test_the_risk_matrix_holds_every_row(rows, html_of):
    y, proba, _ = rows
    impact = dict(zip(NAMES.tolist(), ("minor", "major", "severe"), strict=True))
    matrix = RiskMatrix.five_by_five(impact=impact)
    report = CalibrationReport.from_predictions(y, proba, risk_matrix=matrix)
    found = report.figures["risk_matrix"]
    assert found["n_by_cell"] == matrix.cells(proba).tolist()
    wrong = NAMES[proba.argmax(1)] != y
    assert found["n_wrong_by_cell"] == matrix.cells(proba[wrong]).tolist()
    assert sum(found["n_by_action"].values()) == 900
    assert "Likelihood that the label is wrong" in html_of(report)
    # Impacts by row stay with their rows when some rows failed.
    levels = np.where(np.arange(900) % 2, "minor", "severe")
    holes = proba.copy()
    holes[::2] = np.nan
    some = CalibrationReport.from_predictions(y, holes, risk_matrix=matrix, impact=levels)
    assert np.array(some.figures["risk_matrix"]["n_by_cell"])[:, [0, 2, 3, 4]].sum() == 0


def test_many_classes(html_of):
    rng = np.random.default_rng(0)
    names = [f"intent {k:02d}" for k in range(77)]
    proba = rng.dirichlet(np.full(77, 0.1), 400)
    y = np.array([rng.choice(names, p=row) for row in proba])
    html = html_of(CalibrationReport.from_predictions(y, proba, labels=names))
    assert "Confusion matrix" not in html
    assert "Most frequent confusions" in html
    assert "fewer than 20 rows" in html


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([True, False] * 30, [0.8, 0.3] * 30),
        ([3, 7] * 30, np.tile([[0.9, 0.1], [0.4, 0.6]], (30, 1))),
    ],
)
def test_labels_of_other_kinds(y, p, html_of):
    report = CalibrationReport.from_predictions(y, p)
    assert json.loads(report.to_json())["data"]["classes"] == sorted(set(y))
    assert "probabilities" in html_of(report)
    assert report.figures["before"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": [1, 2]}, "ids has 2 entries, but y has 900 rows"),
        ({"texts": ["a"]}, "texts has 1 entries"),
        ({"before": np.full((900, 2), 0.5)}, "before has 2 columns for the 3 classes"),
        ({"before": np.full((7, 3), 1 / 3)}, "before has 7 rows, but proba has 900"),
        ({"before": HOLES}, "before has no probabilities in row 3, but proba has"),
        ({"failures": {900: "lost"}}, "failures names row 900, but there are 900 rows"),
        ({"proba": "text"}, "proba must hold numbers"),
        ({"y": [["a", "b"]]}, "y must hold one label per row"),
        ({"sample_weight": [1.0]}, "sample_weight must have shape"),
        ({"labels": ["a", "b", "c"]}, "y holds 'animals & <plants>'|not one of the labels"),
        ({"n_rows": -1}, "n_rows must be an integer of at least 0, got -1"),
        ({"price_per_million": 3}, "price_per_million must be two prices"),
        ({"claim": 2}, r"claim must be a number in \(0, 1\), got 2"),
        ({"targets": (0.8, 95)}, r"targets must be a number in \(0, 1\), got 95"),
        ({"confidence": 0.3}, "confidence must be a number in"),
    ],
)
def test_mistakes_are_named(rows, change, message):
    y, proba, _ = rows
    given = {"y": y, "proba": proba} | change
    with pytest.raises(ValueError, match=message):
        CalibrationReport.from_predictions(**given)


# -- estimators ------------------------------------------------------------------------------------


@pytest.fixture
def messages():
    return load_messages(return_X_y=True)


def test_a_calibrated_model_is_asked_once_and_tells_all(messages, counted, html_of):
    X, y = messages
    backend = counted(fail_on=(X[210],))
    llm = LLMClassifier(backend, classes=["negative", "positive"], cache=None, on_error="nan")
    clf = CalibratedLLMClassifier(llm).fit(X[:200], y[:200])
    before = backend.asked.total()
    report = CalibrationReport.from_estimator(
        clf, X[200:400], y[200:400], ids=range(200, 400), price_per_million=(2, 8)
    )
    assert backend.asked.total() - before <= 200 + 1  # one more tells the model as served
    figures = report.figures
    assert figures["data"]["n"] == 199
    assert figures["rows"]["failed"][0]["id"] == "210"
    keep = [i for i in range(200, 400) if i != 210]
    given = [X[i] for i in keep]
    assert figures["after"]["log_loss"] == pytest.approx(
        log_loss(y[keep], clf.predict_proba(given))
    )
    raw = clf.estimator_.predict_proba(given)
    assert figures["before"]["log_loss"] == pytest.approx(log_loss(y[keep], raw))
    assert figures["class_shares"]["of"] == "the calibration rows"
    assert figures["card"]["n"] == 200
    assert figures["usage"]["n_rows"] == 200
    assert figures["usage"]["n_rows_cached"] == 0
    assert figures["usage"]["n_requests"] >= 199
    html = html_of(report)
    assert "Calibration card" in html
    assert "in all," in html
    assert X[int(figures["rows"]["worst"][0]["id"])] in "".join(Whole(html).text)
    hidden = CalibrationReport.from_estimator(clf, X[200:260], y[200:260], show_texts=False)
    assert hidden.figures["rows"]["doubtful"][0]["text"] is None
    assert "$0 in all" in html_of(hidden)


def test_the_policy_of_a_review_classifier_is_reported(messages, counted):
    X, y = messages
    llm = LLMClassifier(counted(), classes=["negative", "positive"], cache=None)
    policy = ReviewPolicy(0.5, on_not_certifiable="review")
    clf = ReviewClassifier(CalibratedLLMClassifier(llm), policy).fit(X[:200], y[:200])
    report = CalibrationReport.from_estimator(clf, X[200:300], y[200:300])
    assert report.figures["policy"]["summary"] == clf.policy_.summary().splitlines()
    assert report.figures["card"] is not None


def test_the_members_of_an_ensemble_add_up(messages, counted):
    X, y = messages
    members = [
        (name, LLMClassifier(counted(), classes=["negative", "positive"], cache=None))
        for name in ("one", "two")
    ]
    clf = LLMEnsembleClassifier(members).fit(X[:20], y[:20])
    figures = CalibrationReport.from_estimator(clf, X[:50], y[:50]).figures
    assert figures["usage"]["n_requests"] == 100
    assert figures["before"] is None


def test_other_classifiers_searches_and_pipelines():
    X, y = load_iris(return_X_y=True)
    train, test = slice(None, None, 2), slice(1, None, 2)
    search = GridSearchCV(
        CalibratedLLMClassifier(LogisticRegression(max_iter=1000), method="vector"),
        {"estimator__C": [0.1, 1]},
    ).fit(X[train], y[train])
    report = CalibrationReport.from_estimator(search, X[test], y[test])
    best = search.best_estimator_
    assert report.figures["after"]["log_loss"] == pytest.approx(
        log_loss(y[test], best.predict_proba(X[test]))
    )
    assert report.figures["before"]["log_loss"] == pytest.approx(
        log_loss(y[test], best.estimator_.predict_proba(X[test]))
    )
    assert report.figures["usage"] is None
    assert report.figures["rows"]["doubtful"][0]["text"].startswith("x0: ")
    piped = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[train], y[train])
    plain = CalibrationReport.from_estimator(piped, X[test], y[test])
    assert plain.figures["before"] is plain.figures["card"] is None
    assert any("It is not known which model" in sentence for sentence in limits(plain.figures))


def test_a_frozen_classifier_is_opened():
    from sklearn.frozen import FrozenEstimator

    X, y = make_classification(300, random_state=0)
    inner = CalibratedLLMClassifier(LogisticRegression(), method="platt").fit(X[:150], y[:150])
    report = CalibrationReport.from_estimator(FrozenEstimator(inner), X[150:], y[150:])
    assert report.figures["before"] is not None
