"""The comparison with other libraries runs (``benchmarks/reliability.py``), in short."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("openai")
SEED = 4876  # of faults that cost no time; two refusals begin with a key
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "reliability.py"
if not SCRIPT.exists():
    pytest.skip("benchmarks/ is not there", allow_module_level=True)


@pytest.fixture(scope="module")
def reliability():
    spec = importlib.util.spec_from_file_location("reliability", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-chaos")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("name", ["skllm-calib", "openai, all caught"])
def test_twenty_rows(reliability, name):
    tally, n_right, seconds = reliability.tally_of(
        name, sys.executable, 20, seed=SEED, signals=["logprobs"]
    )
    assert (tally.rows, tally.struck, tally.ended) == (20, 6, 0)
    assert tally.requests > 20
    assert seconds > 0
    assert n_right == 0
    assert tally.broken == ({} if name == "skllm-calib" else {"invented": 2}), tally
