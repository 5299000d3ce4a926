from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from skllm_calib import backends
from skllm_calib.backends import (
    PROVIDERS,
    AnthropicBackend,
    LlamaCppBackend,
    MistralBackend,
    OpenAIBackend,
    TestingBackend,
    resolve_model,
)
from skllm_calib.evidence.backends.providers import backend_classes
from skllm_calib.exceptions import MissingDependency


def test_names_and_backends():
    assert isinstance(resolve_model("smollm2"), LlamaCppBackend)
    assert resolve_model("smollm2").model == "smollm2"
    assert resolve_model("llamacpp:/some/where.gguf").model == "/some/where.gguf"
    assert resolve_model("openai:gpt-4o:2024").model == "gpt-4o:2024"
    assert isinstance(resolve_model("openai:m"), OpenAIBackend)
    assert resolve_model("testing:mine").name == "mine"
    assert isinstance(resolve_model("anthropic:claude"), AnthropicBackend)
    assert isinstance(resolve_model("mistral:small"), MistralBackend)
    assert resolve_model("transformers:org/name").model == "org/name"
    gemini = resolve_model("gemini:flash")
    assert (gemini.model, gemini.api_key_env) == ("flash", "GEMINI_API_KEY")
    assert gemini.base_url.startswith("https://generativelanguage.googleapis.com/")
    backend = TestingBackend()
    assert resolve_model(backend) is backend


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (None, "name a language model.*'smollm2'.*'llamacpp:PATH.gguf'.*'openai:NAME'"),
        ("gpt-4o", "is unknown.*openai:NAME"),
        ("openia:gpt-4o", "Did you mean 'openai'"),
        ("smolm2", "Did you mean 'smollm2'"),
        ("openai:", "is unknown"),
        ("openai", "is unknown"),
        ("smollm2:", "is unknown"),
        ("smollm2:large", "is unknown"),
        ("/models/m.gguf", "write 'llamacpp:/models/m.gguf'"),
        ("", "is unknown"),
    ],
)
def test_unknown_names(model, problem):
    with pytest.raises(ValueError, match=problem) as raised:
        resolve_model(model)
    assert "testing" not in str(raised.value)


def test_neither_name_nor_backend():
    with pytest.raises(TypeError, match="model=7"):
        resolve_model(7)


def test_a_line_of_the_table_is_all_that_a_provider_takes(monkeypatch):
    monkeypatch.setitem(PROVIDERS, "mine", lambda name: TestingBackend(name=name))
    assert resolve_model("mine:large").name == "large"
    with pytest.raises(ValueError, match="unknown"):
        resolve_model("mine:")


def test_every_class_of_the_table_is_a_public_name():
    for name, cls in backend_classes().items():
        assert name in backends.__all__
        assert name in dir(backends)
        assert getattr(backends, name) is cls
    with pytest.raises(AttributeError, match="NoBackend"):
        backends.NoBackend  # noqa: B018


def test_naming_a_model_imports_neither_other_backends_nor_any_sdk():
    code = """
import sys
import skllm_calib.backends
skllm_calib.backends.resolve_model("openai:gpt")
skllm_calib.backends.resolve_model("anthropic:claude").identity()
skllm_calib.backends.resolve_model("mistral:small").identity()
heavy = {"openai", "anthropic", "mistralai", "torch", "transformers", "xllamacpp", "httpx"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------- other packages

ACME = """
from skllm_calib.backends import TestingBackend


def make(name):
    return TestingBackend(name=f"acme {name}")


def make_nothing(name):
    return None
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install packages as pip would: a module, and the metadata of a distribution beside it."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(package="acme-llm", **entry_points):
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(ACME)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        text = "\n".join(["[skllm_calib.backends]", *lines, ""])
        (info / "entry_points.txt").write_text(text)

    yield install
    sys.modules.pop("acme_llm", None)


def test_an_installed_package_adds_a_provider(install):
    with pytest.raises(ValueError, match="unknown"):
        resolve_model("acme:large")
    install(acme="acme_llm:make")
    assert resolve_model("acme:large").name == "acme large"
    assert resolve_model("openai:gpt").model == "gpt"
    with pytest.raises(ValueError, match=r"'acme:NAME'.*Did you mean 'acme'"):
        resolve_model("acne:large")
    with pytest.raises(ValueError, match="'acme:' is unknown"):
        resolve_model("acme:")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("acme_llm:missing", "'acme-llm'.*'acme_llm:missing'.*AttributeError"),
        ("acme_absent:make", "'acme-llm'.*No module named 'acme_absent'"),
    ],
)
def test_an_entry_point_that_cannot_be_loaded(install, value, problem):
    install(acme=value)
    with pytest.raises(MissingDependency, match=problem):
        resolve_model("acme:large")
    assert resolve_model("openai:gpt").model == "gpt"


def test_an_entry_point_that_makes_no_backend(install):
    install(acme="acme_llm:make_nothing")
    with pytest.raises(TypeError, match=r"'acme-llm'.*made None.*BaseBackend"):
        resolve_model("acme:large")


def test_a_provider_of_ours_wins_with_a_warning(install):
    install(openai="acme_llm:make", smollm2="acme_llm:make")
    with pytest.warns(UserWarning, match="'acme-llm' adds a provider 'openai'.*built-in one is"):
        assert isinstance(resolve_model("openai:gpt"), OpenAIBackend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolve_model("mistral:small")


def test_two_packages_with_one_name_are_an_error(install):
    install(acme="acme_llm:make")
    install("acme-fork", acme="acme_fork:make")
    with pytest.raises(ValueError, match="'acme-fork', 'acme-llm' all add a provider 'acme'"):
        resolve_model("acme:large")
