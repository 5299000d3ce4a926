"""Clients of a server whose requests can be ended from another thread.

A thread that waits for a server cannot be woken, and the time-outs of an HTTP client are those of
one read: a server that sends a byte a second is never too late for them. So one request at a time
uses a client, it is known which sockets that client has open, and shutting them ends the request.
"""

from __future__ import annotations

import socket
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

__all__ = [
    "LONGEST_CONNECT",
    "Channel",
    "ChannelCutError",
    "Channels",
    "SDKChannel",
    "http_package",
    "sdk_channels",
]

LONGEST_CONNECT = 10.0
"""Most seconds until a connection is made; the whole request may take longer."""


class ChannelCutError(Exception):
    """Nothing more may be sent through a channel that was cut."""


class Channel(ABC):
    """What one request uses at a time, and the sockets that it has open.

    Attributes
    ----------
    client : object
        What sends requests.
    timeout : float
        Seconds after which a request is given up.
    is_cut : bool
        Whether nothing more may be sent.
    headers : mapping or None
        Those of the latest answer; None while there is none.
    """

    client: Any

    def __init__(self) -> None:
        self.timeout = 60.0
        self.is_cut = False
        self.headers: Any = None
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    @property
    def has_answer(self) -> bool:
        """Whether the latest request was answered: what goes wrong then is due to the answer."""
        return self.headers is not None

    def cut(self) -> None:
        """End the request that is under way, and let nothing more be sent; from any thread."""
        with self._lock:
            self.is_cut = True
            for known in self._sockets:
                with suppress(OSError):
                    # Not the method of SSLSocket, which takes its state away from the reader.
                    socket.socket.shutdown(known, socket.SHUT_RDWR)

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    @property
    def longest_connect(self) -> float:
        """Seconds after which an attempt to connect is given up."""
        return min(self.timeout, LONGEST_CONNECT)

    def _note(self, known: socket.socket) -> None:
        """Remember a new socket; under the lock."""
        still_open = [old for old in self._sockets if old.fileno() >= 0]
        self._sockets = [*still_open, known]


class SDKChannel(Channel):
    """A client of an SDK.

    Parameters
    ----------
    http : object
        An ``httpx.Client``, or one of a package of the same interface.
    client : object
        What sends requests through it.
    """

    def __init__(self, http: Any, client: Any) -> None:
        super().__init__()
        self.client = client
        self._http = http
        http.event_hooks = {"request": [self._prepare], "response": [self._note_answer]}

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _prepare(self, request: Any) -> None:
        """Set the time-outs of a request, and have what happens to it reported."""
        self.headers = None
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout)
        timeouts["connect"] = self.longest_connect
        request.extensions["timeout"] = timeouts
        request.extensions["trace"] = self._trace

    def _note_answer(self, response: Any) -> None:
        self.headers = response.headers

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Learn of new sockets; stop here if nothing more is to be sent."""
        opened: Any = info.get("return_value")
        with self._lock:
            is_new = event.endswith(".complete") and hasattr(opened, "get_extra_info")
            known = opened.get_extra_info("socket") if is_new else None
            if isinstance(known, socket.socket):
                self._note(known)
            if self.is_cut and not event.endswith(".failed") and "close" not in event:
                if is_new:  # nobody else knows of it yet
                    opened.close()
                raise ChannelCutError


class Channels:
    """The channels to one address; one that is idle is used again, with its open connection.

    Parameters
    ----------
    make : callable
        Makes a new channel.
    instead : Channels or None, default=None
        Channels that can do all that these cannot, for when that turns out to be needed.
    is_live : bool, default=True
        Whether there is a server behind them, for whose answers one waits.
    """

    def __init__(
        self,
        make: Callable[[], Channel],
        instead: Channels | None = None,
        *,
        is_live: bool = True,
    ) -> None:
        self.is_live = is_live
        self._make = make
        self._instead = instead
        self._is_replaced = False
        self._idle: list[Channel] = []
        self._is_closed = False
        self._lock = threading.Lock()

    @contextmanager
    def lease(self) -> Iterator[Channel]:
        """Lend a channel to one request."""
        if self._is_replaced and self._instead is not None:
            with self._instead.lease() as other:
                yield other
            return
        with self._lock:
            channel = self._idle.pop() if self._idle else None
        channel = channel or self._make()
        try:
            yield channel
        finally:
            with self._lock:
                is_over = channel.is_cut or self._is_closed
                if not is_over:
                    self._idle.append(channel)
            if is_over:
                channel.close()

    def replace(self) -> None:
        """Lend the channels that can do more from now on."""
        self._is_replaced = True

    def close(self) -> None:
        """Close the connections: idle ones now, those in use when their requests are done."""
        if self._instead is not None:
            self._instead.close()
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()


def http_package(sdk: ModuleType) -> ModuleType:
    """Return the HTTP package of an SDK: httpx, or what replaces it."""
    ancestor = next(kind for kind in sdk.DefaultHttpxClient.__mro__ if kind.__name__ == "Client")
    return sys.modules[ancestor.__module__.partition(".")[0]]


def sdk_channels(sdk: ModuleType, client: Callable[[Any], Any]) -> Channels:
    """Return channels for an SDK as OpenAI and Anthropic have it.

    Parameters
    ----------
    sdk : module
    client : callable
        From an HTTP client to a client of the SDK that does not retry by itself.
    """
    certificates: Any = None

    def make() -> SDKChannel:
        nonlocal certificates  # once: reading them takes longer than a request
        certificates = certificates or http_package(sdk).create_ssl_context()
        own = sdk.DefaultHttpxClient(verify=certificates)
        return SDKChannel(own, client(own))

    return Channels(make)
