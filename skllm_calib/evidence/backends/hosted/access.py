"""Where a hosted model is reached, and the key for it, which is never shown."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.exceptions import AuthenticationFailed

__all__ = ["Access", "get_client", "no_key", "read_key"]

_T = TypeVar("_T")
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+(?=@)")
# An SDK wants a key, or would take that of another server from the environment; a local server
# needs none.
_NO_KEY = "no-key"


@dataclass(frozen=True, slots=True)
class Access:
    """Where requests go and with which key.

    Attributes
    ----------
    address : str
        Base URL as sent, perhaps with a user and a password in it.
    key_name : str
        The environment variable that holds the key.
    key : str or None
        Its value at the time of the call.
    advice : str
        How the provider's addresses look, for messages about one that is perhaps wrong.
    """

    address: str
    key_name: str
    key: str | None
    advice: str = ""

    @property
    def public_address(self) -> str:
        """The base URL without user and password."""
        return re.sub(r"(?<=://)[^/\s@]+@", "", self.address).rstrip("/")

    @property
    def hint(self) -> str:
        """The end of a message where the address may be wrong."""
        return f"(is base_url right? {self.advice})" if self.advice else "(is base_url right?)"

    def redact(self, text: str) -> str:
        """Replace the key, and users and passwords in addresses, by three stars."""
        if self.key:
            text = text.replace(self.key, "***")
        return _USER_IN_URL.sub("***", text)

    def __repr__(self) -> str:
        return f"Access({self.public_address!r}, {self.key_name!r})"


def get_client(access: Access, make: Callable[[str], _T], *kind: Hashable) -> _T:
    """Return the client of this process for an address and a key, made once.

    Parameters
    ----------
    access : Access
    make : callable
        From a key to a client.
    *kind : hashable
        What else distinguishes clients, such as the provider.
    """
    key = access.key or _NO_KEY
    digest = hashlib.sha256(key.encode()).hexdigest()
    return get_handle(("client", *kind, access.address, access.key_name, digest), lambda: make(key))


def read_key(name: str) -> str | None:
    """Return the key in an environment variable, or None; a line break at its end is an accident.

    Raises
    ------
    AuthenticationFailed
        If it contains characters that no key has.
    """
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise AuthenticationFailed(
            f"the environment variable {name} contains characters that no key has"
        )
    return key or None


def no_key(name: str) -> AuthenticationFailed:
    """Say that there is no key, and where it is looked for."""
    return AuthenticationFailed(
        f"no key: set the environment variable {name}, or name another one with api_key_env"
    )
