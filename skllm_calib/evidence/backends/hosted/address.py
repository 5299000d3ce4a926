"""The address of a server, and the secrets that it may hold."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar, overload
from urllib.parse import parse_qsl, unquote

from skllm_calib.exceptions import InvalidInput

__all__ = [
    "Address",
    "GuardedParameter",
    "address_parameter",
    "body_parameter",
    "key_name_parameter",
    "split_address",
]

_PARTS = re.compile(r"([A-Za-z][\w+.-]*://|//)?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_KEY = re.compile(r"(?=.*\d)(?=.*[a-z])[A-Za-z0-9]{20,}")  # as no name of a variable is
# Fields that hold a key or a password, however they are written: api_key, apiKey, X-API-KEY.
_SECRET_FIELD = re.compile(
    r"(x[-_ ])?(api|access|auth|secret|private|subscription|account)[-_ ]?(key|token)|key|bearer"
    r"|pass(word|wd|phrase)|(client[-_ ]?)?secret|(proxy[-_ ])?authorization|credentials?",
    re.IGNORECASE,
)
_EXPOSED_USER = 8  # a user name of this length may be a token


_T = TypeVar("_T")


class Address(NamedTuple):
    """An address in two parts: what may be shown, and what may not.

    Attributes
    ----------
    public : str
        Without user, password, query and fragment, and without a slash at its end.
    user, password : str
        As sent; empty where there are none.
    query : mapping
        Fields of its query, as sent.
    raw : tuple of str
        The secret parts as they were written.
    """

    public: str
    user: str = ""
    password: str = ""
    query: Mapping[str, str] = MappingProxyType({})
    raw: tuple[str, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        """The header that sends user and password."""
        if not self.raw or not (self.user or self.password):
            return {}
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        found = [self.password, *self.query.values(), *self.raw]
        if self.user and (not self.password or len(self.user) >= _EXPOSED_USER):
            found.append(self.user)
        if self.headers:
            found.append(self.headers["Authorization"].removeprefix("Basic "))
        return tuple(filter(None, found))


@lru_cache(maxsize=256)
def split_address(address: str) -> Address:
    """Take an address apart."""
    found = _PARTS.fullmatch(address.strip())
    assert found is not None  # the pattern takes every text
    scheme, where, query, fragment = (part or "" for part in found.groups())
    host, slash, path = where.partition("/")
    if "@" not in host and "@" in path and not re.fullmatch(r"[^:]*(:\d*)?|\[.*\](:\d*)?", host):
        host, slash, path = where, "", ""  # a password with a slash in it
    userinfo, _, host = host.rpartition("@")
    user, _, password = userinfo.partition(":")
    return Address(
        (scheme + host + slash + path).rstrip("/"),
        unquote(user),
        unquote(password),
        dict(parse_qsl(query, keep_blank_values=True)),
        tuple(filter(None, (userinfo, password, query, fragment))),
    )


class GuardedParameter(Generic[_T]):
    """A parameter of a backend that would show a secret, and is refused where it is set.

    Parameters
    ----------
    fault_of : callable
        From a value to what is wrong with it, without the value; "" where nothing is.
    """

    def __init__(self, fault_of: Callable[[Any], str]) -> None:
        self._fault_of = fault_of

    def __set_name__(self, owner: type, name: str) -> None:
        """Remember what it is called."""
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> GuardedParameter[_T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> _T | None: ...
    def __get__(self, instance: object | None, owner: type) -> GuardedParameter[_T] | _T | None:
        """Return the value."""
        if instance is None:
            return self
        try:
            value: _T | None = instance.__dict__[self._name]
        except KeyError:
            about = f"{type(instance).__name__!r} has no attribute {self._name!r}"
            raise AttributeError(about) from None
        return value

    def __set__(self, instance: object, value: _T | None) -> None:
        """Keep a value, or raise InvalidInput."""
        if value is not None and (fault := self._fault_of(value)):
            raise InvalidInput(f"{self._name} {fault}", parameter=self._name)
        instance.__dict__[self._name] = value


def address_parameter(variable: str) -> GuardedParameter[str]:
    """Return a parameter for an address; one with secrets belongs into this variable."""
    fault = (
        "holds a user, a password or a query, which would show in representations and files: give "
        "the address alone and a key in the environment variable that api_key_env names, or set "
        f"{variable} to the whole address and leave base_url out"
    )
    return GuardedParameter(lambda value: fault if split_address(str(value)).raw else "")


def key_name_parameter() -> GuardedParameter[str]:
    """Return a parameter for the name of a variable; the key itself is not taken for one."""
    fault = (
        "must be the name of an environment variable, such as 'MY_KEY': it seems to be the key "
        "itself, which would show in representations and files"
    )

    def is_name(value: str) -> bool:
        return bool(_VARIABLE.fullmatch(value)) and not _KEY.fullmatch(value)

    return GuardedParameter(lambda value: "" if is_name(str(value)) else fault)


def body_parameter() -> GuardedParameter[Mapping[str, Any]]:
    """Return a parameter for further fields of a request, of which none is a key or a password."""

    def fault_of(fields: Any) -> str:
        if (name := next(_secret_fields(fields), None)) is None:
            return ""
        return (
            f"holds {name!r}, whose value would show in representations and files: leave it out, "
            "and give the key in the environment variable that api_key_env names"
        )

    return GuardedParameter(fault_of)


def _secret_fields(fields: Any) -> Iterator[str]:
    if isinstance(fields, Mapping):
        for name, value in fields.items():
            if isinstance(value, str) and _SECRET_FIELD.fullmatch(str(name)):
                yield str(name)
            yield from _secret_fields(value)
    elif isinstance(fields, list | tuple):
        for value in fields:
            yield from _secret_fields(value)
