"""Clients of a provider's SDK whose requests can be ended from another thread.

A thread that waits for a server cannot be woken, and the time-outs of an HTTP client are those of
one read: a server that sends a byte a second is never too late for them. So one request at a time
uses a client, it is known which sockets that client has open, and shutting them ends the request.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

__all__ = ["Channel", "ChannelCutError", "Channels", "sdk_channels"]

_LONGEST_CONNECT = 10.0  # seconds; the whole request may take longer


class ChannelCutError(Exception):
    """Nothing more may be sent through a channel that was cut."""


class Channel:
    """A client that one request uses at a time, and the sockets that it has open.

    Parameters
    ----------
    http : object
        An ``httpx.Client``, or one of a package of the same interface.
    client : object
        What sends requests through it.
    """

    def __init__(self, http: Any, client: Any) -> None:
        self.client = client
        self.timeout = 60.0
        self.is_cut = self.has_answer = False
        self._http = http
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        http.event_hooks = {"request": [self._prepare], "response": [self._note_answer]}

    def cut(self) -> None:
        """End the request that is under way, and let nothing more be sent; from any thread."""
        with self._lock:
            self.is_cut = True
            for known in self._sockets:
                with suppress(OSError):
                    # Not the method of SSLSocket, which takes its state away from the reader.
                    socket.socket.shutdown(known, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _prepare(self, request: Any) -> None:
        """Set the time-outs of a request, and have what happens to it reported."""
        self.has_answer = False
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout)
        timeouts["connect"] = min(self.timeout, _LONGEST_CONNECT)
        request.extensions["timeout"] = timeouts
        request.extensions["trace"] = self._trace

    def _note_answer(self, response: Any) -> None:
        """Note that a request was answered: what goes wrong from here on is due to the answer."""
        self.has_answer = True

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Learn of new sockets; stop here if nothing more is to be sent."""
        opened: Any = info.get("return_value")
        with self._lock:
            is_new = event.endswith(".complete") and hasattr(opened, "get_extra_info")
            known = opened.get_extra_info("socket") if is_new else None
            if isinstance(known, socket.socket):
                still_open = [old for old in self._sockets if old.fileno() >= 0]
                self._sockets = [*still_open, known]
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
    """

    def __init__(self, make: Callable[[], Channel]) -> None:
        self._make = make
        self._idle: list[Channel] = []
        self._is_closed = False
        self._lock = threading.Lock()

    @contextmanager
    def lease(self) -> Iterator[Channel]:
        """Lend a channel to one request."""
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

    def close(self) -> None:
        """Close the connections: idle ones now, those in use when their requests are done."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for channel in idle:
            channel.close()


def sdk_channels(sdk: ModuleType, client: Callable[[Any], Any]) -> Channels:
    """Return channels for an SDK as OpenAI and Anthropic have it.

    Parameters
    ----------
    sdk : module
    client : callable
        From an HTTP client to a client of the SDK that does not retry by itself.
    """
    ancestor = next(kind for kind in sdk.DefaultHttpxClient.__mro__ if kind.__name__ == "Client")
    http = sys.modules[ancestor.__module__.partition(".")[0]]  # httpx, or what replaces it
    certificates = http.create_ssl_context()  # once: reading them takes longer than a request

    def make() -> Channel:
        own = sdk.DefaultHttpxClient(verify=certificates)
        return Channel(own, client(own))

    return Channels(make)
