"""The web page that reviewers label with, served to this machine only."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Collection
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, urlsplit

from numpy.typing import NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.operations.queue.page import (
    message_page,
    name_page,
    queue_templates,
    work_page,
)
from skllm_calib.operations.queue.results import QueueStatistics

__all__ = ["QueueServer"]

_HOLD = 300.0  # seconds for which a row that one reviewer sees is not shown to another
_POLL = 0.05  # seconds within which a server in the background stops
_LONGEST = 65_536  # bytes of a form; those of the page have a few hundred


class LabelQueue(Protocol):
    """The methods of a `ReviewQueue` that the page needs."""

    @property
    def classes(self) -> NDArray[Any]: ...
    def waiting(
        self, n: int | None = None, *, order: str = "doubt", exclude: Collection[str] = ()
    ) -> list[dict[str, Any]]: ...
    def add_label(self, id: str | int, label: Any, *, reviewer: str) -> bool: ...
    def undo(self, reviewer: str) -> tuple[str, Any] | None: ...
    def last_label(self, reviewer: str) -> tuple[str, Any] | None: ...
    def statistics(self) -> QueueStatistics: ...


class QueueServer:
    """Serves the page of a queue on 127.0.0.1; made by `ReviewQueue.server`.

    Parameters
    ----------
    queue : ReviewQueue
        The queue whose rows are shown.
    port : int, default=0
        Port on 127.0.0.1; 0 takes a free one.

    Attributes
    ----------
    url : str
        Address of the page. It contains a secret that is new for every server; requests without it
        are refused.

    Raises
    ------
    OSError
        If the port is taken.
    MissingDependency
        If Jinja is not installed.

    Notes
    -----
    Only this machine can connect. Another site that is open in the same browser cannot label: it
    does not know the secret, requests with its ``Origin`` or with a ``Host`` other than 127.0.0.1
    or localhost are refused, and no answer allows other origins to read it. Everything in a row is
    escaped, and the page can run no script but its own.
    """

    def __init__(self, queue: LabelQueue, port: int = 0) -> None:
        queue_templates()  # raises where they cannot be filled, before anybody opens a page
        self._token = secrets.token_urlsafe(24)
        desk = _Desk(queue)
        handler = type("Handler", (_Handler,), {"queue": queue, "desk": desk, "token": self._token})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self._thread: threading.Thread | None = None
        self.url = f"http://127.0.0.1:{self._http.server_port}/{self._token}/"

    def serve_forever(self) -> None:
        """Serve until the process is interrupted."""
        try:
            self._http.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            self._http.server_close()

    def __enter__(self) -> QueueServer:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(_POLL,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Desk:
    """Who is looking at which row, so that two reviewers do not do the same work."""

    def __init__(self, queue: LabelQueue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._shown: dict[str, tuple[str, float]] = {}
        self._skipped: dict[str, set[str]] = {}

    def next_row(self, reviewer: str) -> dict[str, Any] | None:
        """Return the row to show to a reviewer; asked again, the same one."""
        with self._lock:
            now = time.monotonic()
            self._shown = {
                name: (who, until)
                for name, (who, until) in self._shown.items()
                if who != reviewer and until > now
            }
            skipped = self._skipped.get(reviewer, set())
            rows = self._queue.waiting(1, exclude=skipped | set(self._shown))
            if not rows and skipped:  # nothing else is left: they come once more
                self._skipped.pop(reviewer)
                rows = self._queue.waiting(1, exclude=set(self._shown))
            if not rows:
                return None
            self._shown[rows[0]["id"]] = (reviewer, now + _HOLD)
            return rows[0]

    def skip(self, reviewer: str, name: str) -> None:
        with self._lock:
            self._skipped.setdefault(reviewer, set()).add(name)


class _Handler(BaseHTTPRequestHandler):
    queue: LabelQueue
    desk: _Desk
    token: str
    timeout = 30  # seconds: a connection on which nothing comes must not keep a thread
    server_version, sys_version = "skllm-calib", ""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if not self._allowed(address.path, "/"):
            return
        reviewer = _first(parse_qs(address.query), "reviewer").strip()
        nonce = secrets.token_urlsafe(16)
        if not reviewer:
            self._answer(HTTPStatus.OK, name_page(nonce), nonce)
            return
        row = self.desk.next_row(reviewer)
        last = self.queue.last_label(reviewer)
        shown = work_page(
            nonce,
            reviewer,
            row=row,
            classes=self.queue.classes.tolist(),
            statistics=self.queue.statistics(),
            last=last,
        )
        self._answer(HTTPStatus.OK, shown, nonce)

    def do_POST(self) -> None:
        if not self._allowed(urlsplit(self.path).path, "/act"):
            return
        host, origin = self.headers.get("Host"), self.headers.get("Origin")
        site = self.headers.get("Sec-Fetch-Site", "same-origin")
        if origin not in (None, f"http://{host}") or site not in ("same-origin", "none"):
            self._refuse(HTTPStatus.FORBIDDEN, "This request came from another site.")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LONGEST:
            self._refuse(HTTPStatus.BAD_REQUEST, "This is not a form of the review page.")
            return
        form = parse_qs(self.rfile.read(int(length)).decode(errors="replace"))
        reviewer = _first(form, "reviewer").strip()
        try:
            self._act(_first(form, "act"), form, reviewer)
        except ValueError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", f"/{self.token}/?reviewer={quote(reviewer)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _act(self, act: str, form: dict[str, list[str]], reviewer: str) -> None:
        if not reviewer:
            raise InvalidInput("reviewer must not be empty", "reviewer", value=reviewer)
        if act == "label":
            label = _first(form, "label").replace("\r\n", "\n")  # as forms send each line break
            self.queue.add_label(_first(form, "id"), label, reviewer=reviewer)
        elif act == "skip":
            self.desk.skip(reviewer, _first(form, "id"))
        elif act == "undo":
            self.queue.undo(reviewer)
        else:
            raise InvalidInput(f"there is no action {act!r}", "act", value=act)

    def _allowed(self, path: str, what: str) -> bool:
        """Refuse other names of this machine (DNS rebinding), and requests without the secret."""
        # Any port: who comes through a tunnel may have another one at the other end.
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in ("127.0.0.1", "localhost"):
            self._refuse(HTTPStatus.FORBIDDEN, "This page is only served as 127.0.0.1.")
            return False
        if not secrets.compare_digest(path.encode(), f"/{self.token}{what}".encode()):
            self._refuse(HTTPStatus.NOT_FOUND, "No such page: use the address that was printed.")
            return False
        return True

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        nonce = secrets.token_urlsafe(16)
        self._answer(status, message_page(nonce, message), nonce)

    def _answer(self, status: HTTPStatus, page: str, nonce: str) -> None:
        body = page.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        # The address holds the secret. "no-referrer" would also blank the Origin of our own forms.
        self.send_header("Referrer-Policy", "same-origin")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header(
            "Content-Security-Policy",
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        )
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the address holds the secret."""


def _first(fields: dict[str, list[str]], name: str) -> str:
    return fields.get(name, [""])[0]
