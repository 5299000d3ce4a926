"""Remembering which rows were drawn."""

import pandas

from skllm_calib.operations.records import read_used, text_digest, write_used
from skllm_calib.utils.tables import Table


def test_used_rows_are_known_again_without_their_texts(tmp_path):
    assert read_used(tmp_path) is None
    rows = pandas.DataFrame({"text": ["a secret text"], "label": ["x"]}, index=[4])
    write_used(tmp_path, rows, Table([], [], path="rows.csv"))
    assert read_used(tmp_path) == {text_digest(" a secret text ")}
    assert "secret" not in (tmp_path / "calibration_rows.json").read_text()
