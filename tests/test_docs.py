"""The Python blocks of the README and the documentation run, and the reference is complete."""

import ast
import importlib
import re
import sys
import textwrap
from pathlib import Path

import pytest

import skllm_calib
import skllm_calib.evidence.binding
from skllm_calib import Prompt, backends, calibrators, datasets, exceptions, metrics, signals
from skllm_calib.backends import TestingBackend, resolve_model
from skllm_calib.datasets import load_messages
from skllm_calib.evidence.prompts import resolve_prompt

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.rst")])

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="not a checkout")


# Run on real engines by tests/distributed.
ON_CLUSTERS = ("scale",)


def python_blocks(page: Path) -> list[str]:
    """Return the code blocks of a page that are Python."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    found = re.findall(r"^\.\. code-block:: python\n\n((?:(?: {3}.*)?\n)+)", text, re.M)
    return [textwrap.dedent(block) for block in found]


class Sentiment(TestingBackend):
    """Answers the bundled messages well, so that a threshold can be found."""

    def identity(self):
        # Short, because it goes into the key of every request.
        return {"provider": "testing", "name": "sentiment", "form": self.answer_form}


def well_informed(answer_form: str) -> TestingBackend:
    texts, labels = load_messages(return_X_y=True)
    rules = {}
    for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
        right = 0.25 if i % 29 == 0 else 0.7 + 0.29 * ((i * 37) % 100) / 100
        p = right if label == "negative" else 1 - right
        rules[text] = {"negative": p, "A": p, "positive": 1 - p, "B": 1 - p}
    backend = Sentiment(rules, off_label=0.02)
    backend.answer_form = answer_form
    return backend


@pytest.fixture
def no_model(monkeypatch, tmp_path):
    """Check the names of models as ever, but ask the testing backend."""
    stand_ins = {form: well_informed(form) for form in ("keys", "words")}

    def resolve(model):
        return stand_ins[resolve_model(model).answer_form]

    monkeypatch.setattr(skllm_calib.evidence.binding, "resolve_model", resolve)
    monkeypatch.chdir(tmp_path)  # what a page writes


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if python_blocks(p) and p.stem not in ON_CLUSTERS],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
@pytest.mark.filterwarnings("ignore::skllm_calib.exceptions.FailedRowsWarning")
@pytest.mark.usefixtures("no_model")
def test_the_code_of_a_page_runs_from_top_to_bottom(page):
    if re.search("ReliabilityDisplay|CalibrationReport", page.read_text(encoding="utf-8")):
        pytest.importorskip("matplotlib").use("Agg")
    for package in ("imblearn", "optuna", "skops", "skore"):  # not among the oldest versions
        if any(f"import {package}" in block for block in python_blocks(page)):
            pytest.importorskip(package)
    names = {"__name__": "page"}
    for number, block in enumerate(python_blocks(page), 1):
        code = compile(block, f"{page.name}, block {number}", "exec")
        exec(code, names)
    if "matplotlib.pyplot" in sys.modules:
        importlib.import_module("matplotlib.pyplot").close("all")


def prompts_shown():
    """Yield the page and the source of each prompt and template in the code of the pages."""
    for page in PAGES:
        for block in python_blocks(page):
            for node in ast.walk(ast.parse(block)):
                is_prompt = isinstance(node, ast.Call) and ast.unparse(node.func) == "Prompt"
                text = node.value if isinstance(node, ast.Constant) else None
                if is_prompt or (isinstance(text, str) and "{hint}" in text and "\n\n" in text):
                    yield page.name, ast.unparse(node)


@pytest.mark.parametrize(("page", "source"), list(prompts_shown()))
@pytest.mark.parametrize("form", ["keys", "words"])
def test_prompts_that_are_shown_can_be_answered(page, source, form):
    """Whatever the backend prefers, the model is shown all that it may answer."""
    prompt = eval(source, {"Prompt": Prompt})  # of our own pages
    prompt = resolve_prompt(prompt)
    columns = re.findall(r"{(\w+)}", str(prompt.template))
    rows = [name for name in columns if name not in ("options", "hint")]
    bound = prompt.bind(["ham", "spam"], answer_form=form, columns=rows)
    whole = "\n".join(m.content for m in bound.render(dict.fromkeys(["text", *rows], "?")))
    for answer in bound.answers:
        assert re.search(rf"\b{answer}\b", whole), (page, whole)


def test_there_are_blocks_to_run():
    assert len(python_blocks(ROOT / "README.md")) >= 4
    assert len(python_blocks(ROOT / "docs" / "quick_start.rst")) >= 6


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (module, module.__all__)
        for module in (
            skllm_calib,
            backends,
            calibrators,
            datasets,
            exceptions,
            metrics,
            signals,
        )
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_reference_lists_every_public_name(module, names):
    listed = set(re.findall(r"[\w.]*?(\w+)$", (ROOT / "docs/api.rst").read_text(), re.M))
    assert {name for name in names if not name.startswith("__")} <= listed


def test_pages_link_only_to_pages_that_exist():
    pages = {p.stem for p in (ROOT / "docs").glob("*.rst")}
    linked = {
        name
        for p in (ROOT / "docs").glob("*.rst")
        for name in re.findall(r":doc:`(\w+)`", p.read_text(encoding="utf-8"))
    }
    assert linked <= pages


def test_the_commands_shown_exist_and_take_the_options_shown(capsys):
    cli = pytest.importorskip("skllm_calib.cli")
    shown = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        shown += re.findall(r"\$ skllm-calib (\w+)(.*)", text)
    assert shown
    for command, arguments in shown:
        names = [command]
        if command in ("queue", "monitor"):  # the next word is a command too
            names.append(arguments.split()[0])
        with pytest.raises(SystemExit) as stop:
            cli.main([*names, "--help"])
        assert stop.value.code == 0, names
        options = set(re.findall(r"--[a-z-]+", arguments))
        assert options <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out)), names
