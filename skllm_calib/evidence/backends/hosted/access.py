"""Where a hosted model is reached, and the key for it, which is never shown."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.evidence.backends.hosted.address import Address, split_address
from skllm_calib.evidence.backends.hosted.redaction import Redactor, guard_logs, redactor_of
from skllm_calib.exceptions import AuthenticationFailed

__all__ = ["Access", "get_client", "no_key", "read_key"]

_T = TypeVar("_T")
# An SDK wants a key, or would take that of another server from the environment; a local server
# needs none.
_NO_KEY = "no-key"
# What the SDKs send of their own accord.
_SENT_BY_SDKS = ("ANTHROPIC_AUTH_TOKEN", "AZURE_OPENAI_AD_TOKEN", "OPENAI_ADMIN_KEY")


@dataclass(frozen=True, slots=True)
class Access:
    """Where requests go and with which key.

    Attributes
    ----------
    address : str
        Base URL as it is configured, perhaps with a user, a password or a key in it.
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
    def parts(self) -> Address:
        """The base URL, and apart from it the secrets that it holds."""
        return split_address(self.address)

    @property
    def public_address(self) -> str:
        """The base URL without user, password and query."""
        return self.parts.public

    @property
    def is_openai(self) -> bool:
        """Whether OpenAI itself answers, or Azure."""
        host = urlsplit(self.address).hostname or ""
        return host == "api.openai.com" or host.endswith(".azure.com")

    @property
    def hint(self) -> str:
        """The end of a message where the address may be wrong."""
        return f"(is base_url right? {self.advice})" if self.advice else "(is base_url right?)"

    @property
    def redact(self) -> Redactor:
        """What replaces the key and all other secrets in a text by three stars."""
        others = [os.environ.get(name, "") for name in _SENT_BY_SDKS]
        others += [secret for url in getproxies().values() for secret in split_address(url).secrets]
        return redactor_of(tuple(filter(None, (self.key, *self.parts.secrets, *others))))

    def __repr__(self) -> str:
        return f"Access({self.public_address!r}, {self.key_name!r})"


def get_client(access: Access, make: Callable[[str], _T], *kind: Hashable) -> _T:
    """Return the client of this process for an address and a key, made once.

    From here on the logs of the SDKs show none of the secrets.

    Parameters
    ----------
    access : Access
    make : callable
        From a key to a client.
    *kind : hashable
        What else distinguishes clients, such as the provider.
    """
    guard_logs(access.redact)
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
