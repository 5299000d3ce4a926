from __future__ import annotations

import importlib.util
import os

# Without it scikit-learn skips one of its checks; scipy reads it once, when it is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import pytest

from skllm_calib.backends import TestingBackend, clear_handles
from skllm_calib.evidence.backends.llama_cpp.smollm2 import find_smollm2
from skllm_calib.exceptions import ModelNotFound


def pytest_configure(config):
    # scikit-learn before 1.9 gives pytest its checks as a generator, which pytest 9.1 deprecates.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:Passing a non-Collection iterable to parametrize:pytest.PytestDeprecationWarning",
    )


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    """No test reads or fills the user's own cache."""
    monkeypatch.setenv("SKLLM_CALIB_CACHE", str(tmp_path / "default.sqlite"))


@pytest.fixture(scope="session", autouse=True)
def _let_go():
    """Close clients and models before the interpreter ends."""
    yield
    clear_handles()


@pytest.fixture
def counted(request):
    """Make a TestingBackend whose counts no other test shares."""
    backends = []

    def make(rules=None, **options):
        name = f"{request.node.nodeid}-{len(backends)}"
        backends.append(TestingBackend(rules, name=name, **options))
        return backends[-1]

    yield make
    for backend in backends:
        backend.forget()


@pytest.fixture(scope="session")
def smollm2():
    """Return the path of the small model, or skip."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("needs the llamacpp extra: pip install 'skllm-calib[llamacpp]'")
    try:
        return find_smollm2()
    except ModelNotFound as e:
        pytest.skip(str(e))
