"""The page of a report as people see it: light, dark, on a telephone and on paper."""

import numpy as np
import pytest

from skllm_calib import CalibrationReport, ReviewPolicy, RiskMatrix

pytestmark = pytest.mark.browser

LABELS = [f"{'I' * k} Natural or cultured pearls, precious stones <{k}>" for k in range(1, 13)]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Write a report with everything in it: long labels, wild texts, failed rows."""
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.full(12, 0.15), 700)
    y = np.array([rng.choice(LABELS, p=row) for row in proba])
    before = proba**2 / (proba**2).sum(axis=1, keepdims=True)
    proba[5] = before[5] = np.nan
    texts = [
        f'<script>alert("{i}")</script><img src="http://127.0.0.1:9/{i}"> ' + "Zollgut" * (i % 40)
        for i in range(700)
    ]
    levels = ("negligible", "minor", "moderate", "major", "severe")
    impact = {label: levels[k % 5] for k, label in enumerate(LABELS)}
    made = CalibrationReport.from_predictions(
        y,
        proba,
        before=before,
        labels=LABELS,
        texts=texts,
        failures={5: "refused: " + "x" * 300},
        policy=ReviewPolicy(0.9),
        risk_matrix=RiskMatrix.five_by_five(impact=impact),
        card={"model": "tiny:model", "n": 200, "classes": LABELS, "parameters": {"a": 1.5}},
        title="Customs & <duties>",
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    made.save(path)
    return path


def test_everyone_can_read_it(tab, report):
    tab.page.goto(report.as_uri())
    assert tab.page.title() == "Customs & <duties>"
    assert tab.accessibility_problems() == []
    for summary in tab.page.locator("summary").all():
        summary.click()
    assert tab.accessibility_problems() == []
    assert tab.overflowing() == []
    assert tab.requests == [report.as_uri()]  # nothing else was asked for


def test_texts_are_texts(tab, report):
    tab.page.goto(report.as_uri())
    assert tab.page.locator("script, img").count() == 0
    assert '<script>alert("' in tab.page.locator("#rows").inner_text()


def test_pictures_follow_the_scheme(new_tab, report):
    inks = []
    for scheme in ("light", "dark"):
        page = new_tab(scheme).page
        page.goto(report.as_uri())
        inks.append(
            page.evaluate(
                """() => {
                  const text = document.querySelector("#reliability svg text");
                  const label = getComputedStyle(text).fill;
                  return [label, getComputedStyle(document.body).color];
                }"""
            )
        )
    for label, body in inks:
        assert label == body
    assert inks[0] != inks[1]


def test_paper_is_light_and_shows_what_was_folded(new_tab, report):
    tab = new_tab("dark")
    tab.page.goto(report.as_uri())
    folded = tab.page.locator("details table").first
    assert not folded.is_visible()
    tab.page.emulate_media(media="print", color_scheme="dark")
    assert folded.is_visible()
    ground = "() => getComputedStyle(document.body).backgroundColor"
    assert tab.page.evaluate(ground) == "rgb(255, 255, 255)"
    pdf = tab.pdf()
    assert pdf.startswith(b"%PDF-")
    assert len(pdf) > 50_000


def test_the_contents_lead_to_every_section(new_tab, report):
    page = new_tab(javascript=False).page
    page.goto(report.as_uri())
    links = page.get_by_role("navigation").get_by_role("link").all()
    assert len(links) == page.locator("main section").count() == 10
    links[-1].click()
    assert page.get_by_role("heading", name="Limits").is_visible()
