import os

import pytest

from skllm_calib.utils.files import replacing, write_text


def test_a_file_is_replaced_and_keeps_its_permissions(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "one\n")
    usual = tmp_path / "usual"
    usual.touch()
    assert path.stat().st_mode == usual.stat().st_mode
    os.chmod(path, 0o640)
    write_text(str(path), "zwei – 2\n")
    assert path.read_bytes() == "zwei – 2\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "usual"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def stopped():
        with replacing(path) as fresh:
            fresh.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with pytest.raises(OSError, match="nowhere"):
        write_text(tmp_path / "nowhere" / "a.json", "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
