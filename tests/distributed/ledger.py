"""A model for the tests of clusters: it writes down what was asked, and kills its process."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

from skllm_calib.backends import TestingBackend


class LedgerBackend(TestingBackend):
    """Answers as a TestingBackend of rules; "<broken>" rows fail, and "<deadly>" ones kill, once.

    Parameters
    ----------
    folder : str
        Where it is written down.
    """

    def __init__(self, folder="", *, rules=None, fail_on=("<broken>",), **options):
        super().__init__(rules, fail_on=fail_on, **options)
        self.folder = folder

    @classmethod
    def _get_param_names(cls):
        return sorted({"folder", *TestingBackend._get_param_names()})

    def run(self, requests):
        for i, request in enumerate(requests):
            text = request.messages[-1].content
            line = f"{os.getpid()} {request.subject}\n".encode()
            ledger = os.open(Path(self.folder) / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(ledger, line)
            os.close(ledger)
            if "<deadly>" in text and self._first_time():
                os.kill(os.getpid(), signal.SIGKILL)
            yield i, next(super().run([request]))[1]

    def _first_time(self):
        try:
            (Path(self.folder) / "killed").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def asked(folder):
    """Return how often each text was asked."""
    lines = (Path(folder) / "ledger").read_text().splitlines()
    return Counter(line.partition(" ")[2] for line in lines)


def askers(folder):
    """Return the processes that asked."""
    lines = (Path(folder) / "ledger").read_text().splitlines()
    return {int(line.partition(" ")[0]) for line in lines}
