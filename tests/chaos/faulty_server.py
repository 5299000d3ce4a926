"""A server on the loopback address that fails as planned, and notes what it did about each text."""

from __future__ import annotations

import contextlib
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from faults import Fault
from faults_of_answers import OTHER_WORDS, READABLE, faults_of
from healthy import Healthy, in_form_of, profile_of
from loopback import refusal

from skllm_calib.backends import clear_handles

TIMEOUT = 2.0  # seconds
_TEXT = re.compile(r"message \d+")
# How long a fault stays with its text: one request, the first run, or for good.
DURATIONS = ("once", "first run", "always")


class Plan(NamedTuple):
    """What is done to the requests about a text."""

    fault: str = ""
    lasts: str = "once"


@dataclass
class History:
    """What a server did about a text.

    Attributes
    ----------
    n_stages : int
        How many questions there are about it.
    n_requests : int
    answers : dict of int to float
        When a healthy answer to each question had been sent, in good time.
    bodies : set of str
        Requests that were answered so.
    n_by_stage : Counter of int
        Requests by question.
    asked_again : int
        Requests for what had been answered.
    """

    n_stages: int
    n_requests: int = 0
    answers: dict[int, float] = field(default_factory=dict)
    bodies: set[str] = field(default_factory=set)
    n_by_stage: Counter[int] = field(default_factory=Counter)
    asked_again: int = 0

    @property
    def answered(self) -> float:
        """When all questions had been answered; 0 where they are not."""
        is_whole = len(self.answers) == self.n_stages
        return max(self.answers.values()) if is_whole else 0.0


class FaultyServer(ThreadingHTTPServer):
    """Answers about each text as planned for it; `share` of them are struck by a fault.

    The faults take turns, so that each strikes equally often; `seed` decides which texts.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, texts: Sequence[str], signal: str, share: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.signal = signal
        self.profile = profile_of(signal)
        self.is_first_run = True
        self.delay = 0.0
        self.n_answered = 0
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.histories = {text: History(self.profile.n_stages) for text in texts}
        self.plans = dict.fromkeys(texts, Plan())
        rng = random.Random(seed)
        struck = rng.sample(list(texts), round(share * len(texts)))
        turns = [Plan(name, lasts) for name in self.faults for lasts in DURATIONS]
        rng.shuffle(turns)
        self.plans.update((text, turns[i % len(turns)]) for i, text in enumerate(struck))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> FaultyServer:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that have gone away."""

    @property
    def faults(self) -> Mapping[str, Fault]:
        return faults_of(self.profile)

    def healthy(self, text: str, stage: int = 0, body: Any = None) -> Healthy:
        return Healthy(text, self.signal, stage, body)

    def shows_truth(self, text: str) -> bool:
        """Tell whether the truth is in what is sent about a text, in spite of the fault."""
        fault = self.plans[text].fault
        is_later = self.profile.is_one_reply and self._struck(text, fault) > 0
        return fault in READABLE or is_later  # the first answer may show what follows

    def reply(self, body: dict[str, Any]) -> tuple[Any, History | None]:
        """Return what to send, and where to note it if it is the healthy answer."""
        whole = json.dumps(body, sort_keys=True)
        found = _TEXT.search(whole)
        text = found[0] if found else ""  # a probe has a text of its own
        stage = self.profile.stage(body)
        healthy = self.healthy(text, stage, body)
        with self.lock:
            history = self.histories.setdefault(text, History(self.profile.n_stages))
            history.n_requests += 1
            history.n_by_stage[stage] += 1
            is_kept = history.answered or not self.profile.is_one_reply
            history.asked_again += whole in history.bodies and bool(is_kept)
            name, lasts = self.plans.get(text, Plan())
            is_first = history.n_by_stage[stage] == 1
            is_now = {"once": is_first, "first run": self.is_first_run}.get(lasts, True)
        if name and is_now and (self.profile.strikes_all or stage == self._struck(text, name)):
            return in_form_of(self.profile, self.faults[name](healthy)), None
        return healthy.answer(), history

    def _struck(self, text: str, fault: str) -> int:
        """Return which question about a text is struck."""
        # Other words in the place of a label are no words in the place of its end.
        n_stages = 1 if fault in OTHER_WORDS else self.profile.n_stages
        return random.Random(text).randrange(n_stages)

    def note(self, body: dict[str, Any], history: History) -> None:
        with self.lock:
            history.answers[self.profile.stage(body)] = time.monotonic()
            history.bodies.add(json.dumps(body, sort_keys=True))
            self.n_answered += 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        began = time.monotonic()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != self.server.profile.path:
            self._send(refusal(404, "no such address"))
            return
        answer, history = self.server.reply(body)
        time.sleep(self.server.delay)
        with contextlib.suppress(OSError):
            if callable(answer):
                self.close_connection = True
                answer(self)
                return
            self._send(answer)
            # What a busy machine sends late may have been given up by the client.
            if history is not None and time.monotonic() - began < TIMEOUT / 2:
                self.server.note(body, history)

    def _send(self, answer: Any) -> None:
        raw = answer.body
        kind = "text/html" if isinstance(raw, str) else "application/json"
        if not isinstance(raw, bytes):
            raw = (raw if isinstance(raw, str) else json.dumps(raw)).encode()
        headers = {"Content-Type": kind, "Content-Length": str(len(raw)), **answer.headers}
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        pass


def messages(n_rows: int) -> list[str]:
    return [f"message {i:05}" for i in range(n_rows)]


@contextlib.contextmanager
def faulty(n_rows: int, signal: str, share: float = 0.3, seed: int = 0) -> Iterator[FaultyServer]:
    """Start a server that knows `n_rows` texts; forget about it afterwards."""
    with FaultyServer(messages(n_rows), signal, share, seed) as server:
        clear_handles()
        yield server
        clear_handles()
