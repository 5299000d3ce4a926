"""Public names and the resolution of a method."""

from __future__ import annotations

import pytest

from skllm_calib import calibrators
from skllm_calib.calibrators import (
    AutoCalibrator,
    BaseCalibrator,
    BetaCalibration,
    ConstantCalibration,
    DirichletCalibration,
    DiscreteCalibration,
    EnsembleTemperatureScaling,
    HistogramBinning,
    IsotonicCalibration,
    MatrixScaling,
    PlattScaling,
    ScalingBinning,
    TemperatureScaling,
    VectorScaling,
    VennAbersCalibration,
    resolve_calibrator,
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("auto", AutoCalibrator),
        ("beta", BetaCalibration),
        ("constant", ConstantCalibration),
        ("dirichlet", DirichletCalibration),
        ("discrete", DiscreteCalibration),
        ("ensemble_temperature", EnsembleTemperatureScaling),
        ("histogram", HistogramBinning),
        ("isotonic", IsotonicCalibration),
        ("matrix", MatrixScaling),
        ("platt", PlattScaling),
        ("scaling_binning", ScalingBinning),
        ("sigmoid", PlattScaling),
        ("temperature", TemperatureScaling),
        ("vector", VectorScaling),
        ("venn_abers", VennAbersCalibration),
    ],
)
def test_names(name, kind):
    assert type(resolve_calibrator(name)) is kind


def test_object_is_copied_unfitted():
    mine = VectorScaling(bias_scale=0.5).fit([[0.0, -1.0], [-1.0, 0.0]], [0, 1])
    copy = resolve_calibrator(mine)
    assert copy is not mine
    assert copy.get_params() == mine.get_params()
    assert not hasattr(copy, "classes_")


def test_clear_errors():
    with pytest.raises(ValueError, match=r"did you mean 'temperature'.*Valid names: 'auto'"):
        resolve_calibrator("Temprature")
    with pytest.raises(ValueError, match=r"Unknown calibration method 'xyz'\. Valid names"):
        resolve_calibrator("xyz")
    with pytest.raises(TypeError, match="must be a name or a calibrator object"):
        resolve_calibrator(VectorScaling)


def test_public_names():
    assert all(hasattr(calibrators, name) for name in calibrators.__all__)
    assert issubclass(AutoCalibrator, BaseCalibrator)
    with pytest.raises(TypeError, match="abstract"):
        BaseCalibrator()
