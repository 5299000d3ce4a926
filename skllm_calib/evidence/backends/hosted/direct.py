"""Requests through the HTTP client of the standard library, as a provider's SDK writes them.

An SDK takes many times the processor time that it takes to send a request and to read the answer.
So the SDK writes one request to each address, which goes nowhere: where it is sent to and with
which headers is taken from there. The others are sent here, with bodies of their own.

What is rare is left to the SDK: a proxy, a redirection, an answer that is packed in a rare way.
"""

from __future__ import annotations

import json
import re
import select
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from skllm_calib.evidence.backends.hosted.channels import (
    Channel,
    ChannelCutError,
    Channels,
)
from skllm_calib.exceptions import InvalidInput

__all__ = [
    "NOT_ANSWERED",
    "NotDirectError",
    "StatusError",
    "check_transport",
    "direct_channels",
    "needs_proxy",
]

_LONGEST_IDLE = 5.0  # seconds after which a connection is not used again, as with the SDKs
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}  # also as with them
_PLAIN, _ENCODINGS = ("", "identity"), ("gzip", "x-gzip", "deflate")
_AUTO = 47  # zlib: find out which of these it is
# The length is that of another body; the others count the SDK's use, which this is not.
_DROPPED = re.compile(r"content-length|accept-encoding|x-stainless-.*", re.IGNORECASE)


class NotDirectError(Exception):
    """The server wants something that is left to the SDK."""


class ConnectError(Exception):
    """No connection was made."""


NOT_ANSWERED = (ConnectError, OSError, HTTPException)
"""What is raised where no answer came."""


class StatusError(Exception):
    """An answer with an error status, with the same fields as that of an SDK."""

    def __init__(self, status_code: int, text: str, headers: Any) -> None:
        self.status_code = status_code
        self.text = text
        self.headers = headers
        self.body: Any = text
        with suppress(ValueError, RecursionError):
            self.body = json.loads(text)
        self.message = text or f"Error code: {status_code}"
        super().__init__(self.message)


class Written(NamedTuple):
    """A request as the SDK wrote it, without its body."""

    is_secure: bool
    host: str
    port: int
    target: str
    headers: dict[str, str]


class Origin:
    """Knows how an SDK writes requests to one server; many threads may ask.

    Parameters
    ----------
    http : module
        The HTTP package of the SDK.
    client : callable
        From an HTTP client to a client of the SDK.
    """

    def __init__(self, http: ModuleType, client: Callable[[Any], Any]) -> None:
        self._http = http
        self._client = client
        self._known: dict[str, Written] = {}
        # What the SDK trusts, also by the environment.
        self.certificates: ssl.SSLContext = self._http.create_ssl_context()
        self.certificates.set_alpn_protocols(["http/1.1"])

    def written(self, path: str) -> Written:
        """Return a request to a path."""
        if path not in self._known:
            requests: list[Any] = []

            def answer(request: Any) -> Any:
                requests.append(request)
                return self._http.Response(200, json={})

            transport = self._http.MockTransport(answer)
            # What came back is nothing, whatever the SDK makes of that.
            with self._http.Client(transport=transport) as http, suppress(Exception):
                self._client(http).post(path, body={"model": "", "messages": []}, cast_to=object)
            self._known[path] = _read(requests[0])
        return self._known[path]


def _read(request: Any) -> Written:
    url = request.url
    is_secure = url.scheme == "https"
    # Its own, as the case of a name is not kept by what shows headers as text.
    raw = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw}
    headers = {name: value for name, value in raw.items() if not _DROPPED.fullmatch(name)}
    headers["Accept-Encoding"] = "gzip, deflate"
    port = url.port or (443 if is_secure else 80)
    host, target = url.raw_host.decode("ascii"), url.raw_path.decode("ascii")
    return Written(is_secure, host, port, target, headers)


class _Connection(HTTPConnection):
    """Sends head and body of a request together: to send twice takes a thread twice its turn."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.auto_open = 0
        self._parts: list[bytes] = []

    def send(self, data: Any) -> None:
        """Keep a part of a request."""
        self._parts.append(data)

    def send_all(self) -> None:
        """Send what was kept."""
        written, self._parts = b"".join(self._parts), []
        self.sock.sendall(written)


class DirectChannel(Channel):
    """A connection that one request uses at a time, and that stays open for the next one.

    Parameters
    ----------
    origin : Origin
    error_field : str or None
        The field of a body with an error status that holds the error.
    """

    def __init__(self, origin: Origin, error_field: str | None) -> None:
        super().__init__()
        self._origin = origin
        self._error_field = error_field
        self._connection: _Connection | None = None
        self._last_used = 0.0

    @property
    def client(self) -> DirectChannel:
        """What sends requests."""
        return self

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def post(self, path: str, *, body: Mapping[str, Any], cast_to: type = object) -> Any:
        """Send a body and return what came back: JSON, or text where it is none.

        Parameters
        ----------
        path : str
            Behind the base URL.
        body : mapping
        cast_to : type, default=object
            As with the SDKs, for which other values mean something.

        Raises
        ------
        StatusError, ConnectError, OSError, HTTPException
            Where there is no such answer.
        """
        self.headers = None
        to = self._origin.written(path)
        written = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        if self.is_cut:
            raise ChannelCutError
        connection = self._connection_to(to)
        try:
            # A server may answer before it has read all, and hang up.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request("POST", to.target, written.encode(), to.headers)
                connection.send_all()
            response = connection.getresponse()
            self.headers = response.headers
            content = _content(response)
        except BaseException:
            self.close()
            raise
        self._last_used = time.monotonic()
        return self._parsed(response, content)

    def _parsed(self, response: HTTPResponse, content: bytes) -> Any:
        headers, status = response.headers, response.status
        if status < 200 or 300 <= status < 400:
            self.close()
            raise NotDirectError
        is_error = status >= 400
        kind = ", ".join(headers.get_all("Content-Type", ())).partition(";")[0]
        if not is_error and kind.strip().lower().endswith("json"):
            return json.loads(content)
        text = _text(content, headers.get_content_charset("utf-8"))
        if not is_error:
            return text
        error = StatusError(status, text.strip(), headers)
        if self._error_field is not None and isinstance(error.body, dict):
            error.body = error.body.get(self._error_field, error.body)
        raise error

    def _connection_to(self, to: Written) -> _Connection:
        known = self._connection
        if known is None or not self._is_good(known):
            self.close()
            known = _Connection(to.host, to.port)
            known.sock = self._connected(to)
            self._connection = known
        return known

    def _is_good(self, connection: HTTPConnection) -> bool:
        """Tell whether the server has left a connection open."""
        known = connection.sock
        idle = time.monotonic() - self._last_used
        return known is not None and idle < _LONGEST_IDLE and not _is_readable(known)

    def _connected(self, to: Written) -> socket.socket:
        try:
            return self._connect(to)
        except OSError as error:
            said = str(error) or type(error).__name__
        raise ConnectError(said)

    def _connect(self, to: Written) -> socket.socket:
        opened = socket.create_connection((to.host, to.port), self.longest_connect)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                if (option := getattr(socket, name, None)) is not None:
                    opened.setsockopt(socket.IPPROTO_TCP, option, value)
            if to.is_secure:
                opened = self._origin.certificates.wrap_socket(
                    opened, server_hostname=to.host, do_handshake_on_connect=False
                )
            with self._lock:
                self._note(opened)
                if self.is_cut:
                    raise ChannelCutError
            if isinstance(opened, ssl.SSLSocket):
                opened.do_handshake()
            opened.settimeout(None)  # the end of the whole request is watched from another thread
        except BaseException:
            opened.close()
            raise
        return opened


def _content(response: HTTPResponse) -> bytes:
    content = response.read()
    if not content and response.length is None and not response.chunked:
        raise HTTPException("the server closed the connection before it had answered")
    encoding = response.getheader("Content-Encoding", "").strip().lower()
    if not content or encoding in _PLAIN:
        return content
    if encoding in _ENCODINGS:
        with suppress(zlib.error):
            return zlib.decompress(content, _AUTO)
    raise NotDirectError


def _text(content: bytes, charset: str) -> str:
    try:
        return content.decode(charset, "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def _is_readable(known: socket.socket) -> bool:
    """Tell whether something comes that nobody has asked for, such as the end."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([known], [], [], 0)[0])
    poll = select.poll()
    poll.register(known, select.POLLIN)
    return bool(poll.poll(0))


def needs_proxy(address: str) -> bool:
    """Tell whether the environment wants requests to an address to go through a proxy."""
    parts, proxies = urlsplit(address), getproxies()
    if not {parts.scheme.lower(), "all"} & proxies.keys():
        return False
    return not proxy_bypass(parts.hostname or "")


def check_transport(transport: str) -> None:
    """Raise InvalidInput for a `transport` that there is not."""
    if transport not in ("direct", "sdk"):
        raise InvalidInput(
            f"transport={transport!r}: must be 'direct' or 'sdk'", "transport", value=transport
        )


def direct_channels(
    http: ModuleType,
    client: Callable[[Any], Any],
    instead: Channels,
    *,
    error_field: str | None = None,
) -> Channels:
    """Return channels that need the SDK only to write requests, and where that is not enough.

    Parameters
    ----------
    http : module
        The HTTP package of the SDK.
    client : callable
        From an HTTP client to a client of the SDK that does not retry by itself.
    instead : Channels
        Those of the SDK.
    error_field : str or None, default=None
        The field of a body with an error status that holds the error, where the SDK takes it out.
    """
    origin = Origin(http, client)
    return Channels(lambda: DirectChannel(origin, error_field), instead)
