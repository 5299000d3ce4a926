"""The templates of the pages: in the package, safe by default, and optional."""

from __future__ import annotations

import sys
from importlib.resources import files

import pytest

from skllm_calib import CalibrationReport
from skllm_calib.exceptions import MissingDependency
from skllm_calib.operations.queue import ReviewQueue
from skllm_calib.operations.queue.page import queue_templates
from skllm_calib.operations.report.page import report_templates

TEMPLATES = {"queue": queue_templates, "report": lambda: report_templates("test")}


def names(room):
    place = files(f"skllm_calib.operations.{room}") / "templates"
    return sorted(file.name for file in place.iterdir())


@pytest.mark.parametrize("room", TEMPLATES)
def test_every_template_is_in_the_package_and_can_be_read(room):
    pytest.importorskip("jinja2")
    found = names(room)
    assert {name.rsplit(".", 1)[1] for name in found} >= {"jinja", "css"}
    assert f"{room}.css" in found
    environment = TEMPLATES[room]()
    for name in found:
        text = (files(f"skllm_calib.operations.{room}") / "templates" / name).read_text("utf-8")
        if name.endswith(".jinja"):
            environment.get_template(name)
            assert "|safe" not in text.replace(" ", "")
        else:
            assert environment.globals["file"](name) == text
    assert "--paper" in environment.globals["file"]("palette.css")


@pytest.mark.parametrize("room", TEMPLATES)
def test_texts_are_escaped_and_names_that_are_not_there_are_errors(room):
    jinja2 = pytest.importorskip("jinja2")
    environment = TEMPLATES[room]()
    template = environment.from_string("<p title='{{ text }}'>{{ text }}</p>")
    assert template.render(text="<b>\"'&") == (
        "<p title='&lt;b&gt;&#34;&#39;&amp;'>&lt;b&gt;&#34;&#39;&amp;</p>"
    )
    with pytest.raises(jinja2.UndefinedError):
        template.render()


def test_without_jinja_there_are_no_pages_but_all_else(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    report = CalibrationReport.from_predictions([0, 1] * 20, [0.2, 0.7] * 20)
    with pytest.raises(MissingDependency, match=r"to_html needs jinja2: .*'skllm-calib\[report\]'"):
        report.to_html()
    report.save(tmp_path / "report.json")
    queue = ReviewQueue(tmp_path / "q", classes=["a", "b"])
    assert queue.waiting() == []
    with pytest.raises(MissingDependency, match=r"needs jinja2: pip .*'skllm-calib\[queue\]'"):
        queue.server()
