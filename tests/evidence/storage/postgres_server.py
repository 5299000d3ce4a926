"""A PostgreSQL server of our own, in a folder that vanishes with it."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

_FOLDERS = [*map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]


def program(name):
    """Return the path of a program of PostgreSQL; Debian keeps them out of the PATH."""
    return shutil.which(name, path=os.pathsep.join([*_FOLDERS, os.environ.get("PATH", "")]))


class PostgresServer:
    """Reached by a socket in its folder, by this machine alone; run by another user than root."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="skllm-postgres-")
        self._user = "postgres" if os.getuid() == 0 else None
        self._numbers = itertools.count()
        if self._user:
            shutil.chown(self.folder, self._user)
        data = f"{self.folder}/data"
        self._run("initdb", "-D", data, "-U", "test", "-A", "trust", "-N", "-E", "UTF8")
        settings = (
            f"-k {self.folder} -c listen_addresses= -c fsync=off -c max_connections=50 "
            "-c shared_buffers=32MB"
        )
        self._control = ("-D", data, "-o", settings, "-l", f"{self.folder}/log", "-w")
        self.start()
        self.address = f"postgresql://test@/postgres?host={quote(self.folder, safe='')}"

    def start(self):
        self._run("pg_ctl", "start", *self._control)

    def stop(self):
        """Stop the server as it would by a crash."""
        self._run("pg_ctl", "stop", "-m", "immediate", *self._control)

    def close(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_address(self, user="test"):
        """Return the address of a part of the database where nothing is yet."""
        import psycopg

        schema = f"part{next(self._numbers)}"
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}")
        return f"{self.address}&options={quote(f'-csearch_path={schema}', safe='')}"

    def _run(self, name, *arguments):
        subprocess.run(
            [program(name), *arguments],
            check=True,
            user=self._user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
