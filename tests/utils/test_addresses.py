"""Tables of classes that are imported when they are looked up."""

from fractions import Fraction

import pytest

from skllm_calib.calibrators import CALIBRATORS, TemperatureScaling, resolve_calibrator
from skllm_calib.decisions import RULES, TargetPrecision
from skllm_calib.utils.addresses import ClassTable


def test_a_class_is_found_by_its_address():
    table = ClassTable({"number": "fractions:Fraction", "lost": "fractions:Nothing"})
    assert (list(table), len(table)) == (["number", "lost"], 2)
    assert table.class_names == {"Fraction": "number", "Nothing": "lost"}
    assert table["number"] is Fraction
    with pytest.raises(AttributeError, match="Nothing"):
        table["lost"]
    del table["lost"]
    table["again"] = Fraction
    assert table.class_names == {"Fraction": "again"}
    assert "lost" not in table


def test_calibrators_and_rules_are_added_by_address(monkeypatch):
    where = f"{TemperatureScaling.__module__}:TemperatureScaling"
    monkeypatch.setitem(CALIBRATORS, "mine", where)
    assert isinstance(resolve_calibrator("mine"), TemperatureScaling)
    monkeypatch.setitem(RULES, "mine", f"{TargetPrecision.__module__}:TargetPrecision")
    assert RULES["mine"] is TargetPrecision
