"""Calls to the server that llama.cpp runs in this process, on the loopback interface."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError

from skllm_calib.evidence.backends.hosted.failures import StopRunError
from skllm_calib.exceptions import BackendError, BackendUnavailable, UnreadableReply

__all__ = ["post", "read_field"]

_TIMEOUT = 60.0
# It is on this machine; so no proxy is used.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_GLANCE = 300  # characters of what was said


def post(address: str, path: str, body: Mapping[str, Any], timeout: float = _TIMEOUT) -> Any:
    """Send JSON and return the JSON that comes back.

    Raises
    ------
    StopRunError
        With the failure, which ends a run where a second row has it, too.
    """
    request = urllib.request.Request(
        address + path,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    where = f"llama.cpp at {address}{path}"
    failure: BackendError
    try:
        with _OPENER.open(request, timeout=timeout) as response:
            return json.load(response)
    except HTTPError as error:
        with error:
            said = error.read(4 * _GLANCE).decode(errors="replace").strip()[:_GLANCE]
        what = error.code
        failure = BackendError(f"{where} answered with status {what}: {said}")
    except TimeoutError:
        failure, what = BackendUnavailable(f"no answer from {where} within {timeout:g} s"), 0
    except URLError as error:
        said = f"no connection to {where} ({error.reason}): is the server running?"
        failure, what = BackendUnavailable(said), 0
    except (OSError, ValueError) as error:
        failure, what = UnreadableReply(f"{where} sent no readable answer: {error!r}"), 200
    raise StopRunError(failure, shown_by_rows=f"{path}: {what}")


def read_field(reply: Any, name: str, kind: type) -> Any:
    """Return a field of a reply, which must have this type."""
    if not isinstance(reply, Mapping) or not isinstance(reply.get(name), kind):
        failure = UnreadableReply(f"llama.cpp sent no {name!r}: {reply!r:.{_GLANCE}}")
        raise StopRunError(failure, shown_by_rows=f"no {name}")
    return reply[name]
