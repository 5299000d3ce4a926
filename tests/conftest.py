from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess

# Without it scikit-learn skips one of its checks; scipy reads it once, when it is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import pytest

from skllm_calib.backends import TestingBackend, clear_handles
from skllm_calib.evidence.backends.llama_cpp.smollm2 import find_smollm2
from skllm_calib.exceptions import ModelNotFound


def pytest_configure(config):
    # What was started in the background by a shell ignores Ctrl-C, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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


class Disks:
    """Folders that become read-only, also for the superuser, and small disks; or it skips."""

    def __init__(self):
        self._mounted = []

    def make_read_only(self, folder):
        if os.name != "posix":
            pytest.skip("needs POSIX permissions")
        if os.getuid():
            self._permit(folder, files=0o400, folders=0o500)
            return
        self._mount("--bind", folder, folder)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)

    def make_writable(self, folder):
        if os.getuid():
            self._permit(folder, files=0o600, folders=0o700)
        else:
            self._unmount(folder)

    def small(self, folder, size):
        """Mount a disk of a size at a folder."""
        self._mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder)

    def close(self):
        for folder in self._mounted[::-1]:
            self._unmount(folder)

    def _mount(self, *arguments):
        folder = arguments[-1]
        command = [shutil.which("mount") or "false", *arguments]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("cannot mount here")
        self._mounted.append(folder)

    def _unmount(self, folder):
        subprocess.run(["umount", "--lazy", folder], check=True)
        self._mounted.remove(folder)

    def _permit(self, folder, files, folders):
        folder.chmod(0o700)
        for path in folder.iterdir():
            if path.is_dir():
                self._permit(path, files, folders)
            else:
                path.chmod(files)
        folder.chmod(folders)


@pytest.fixture
def disks():
    disks = Disks()
    yield disks
    disks.close()


@pytest.fixture(scope="session")
def needs():
    """Return a function that skips a test of a cluster without its engine; in CI it fails then."""

    def check(package, *programs):
        missing = [p for p in programs if not shutil.which(p)]
        missing += [] if importlib.util.find_spec(package) else [package]
        if missing and os.environ.get("SKLLM_CALIB_NEED_CLUSTER") == "1":
            pytest.fail(f"needs {', '.join(missing)}")
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")

    return check


@pytest.fixture(scope="session")
def postgres_server(needs):
    """Run a PostgreSQL server of our own, or skip."""
    from postgres_server import PostgresServer, program

    needs("psycopg", program("initdb") or "initdb")
    server = PostgresServer()
    yield server
    server.close()
