"""One run's requests to a server: sent, counted out, and given up together."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from skllm_calib.evidence.backends.hosted.access import Access
from skllm_calib.evidence.backends.hosted.failures import Problem, StopRunError, failure_of
from skllm_calib.exceptions import BackendError, UnreadableReply

__all__ = ["Connection", "SDKConnection"]

_T = TypeVar("_T")
_GLANCE = 500  # characters


class Connection:
    """What all threads of a run know: where they send, and whether it makes sense to go on.

    Parameters
    ----------
    access : Access
        Where requests go, for messages.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._stop: StopRunError | None = None

    def check(self) -> None:
        """Raise if another row found out that none can be answered."""
        if self._stop is not None:
            raise self._stop

    def stop_with(self, failure: BackendError) -> StopRunError:
        """Let no further request be sent in this run; return what to raise."""
        self._stop = StopRunError(failure)
        return self._stop

    def failure_of(self, problem: Problem) -> BackendError | StopRunError:
        """Return what to raise; end the run if the failure would be that of every row."""
        failure = failure_of(problem, self.access)
        return self.stop_with(failure.failure) if isinstance(failure, StopRunError) else failure

    def read(self, reader: Callable[[Any], _T], reply: Any) -> _T:
        """Let `reader` read a reply; what it cannot make sense of is the failure of that row."""
        failure: BackendError
        try:
            return reader(reply)
        except BackendError as error:
            failure = error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            said = f"{self.access.public_address} sent an answer in an unknown form: {error!r}"
            failure = UnreadableReply(said)
        # Outside of the handlers, so that nothing unredacted comes along.
        failure.args = tuple(
            self.access.redact(arg) if isinstance(arg, str) else arg for arg in failure.args
        )
        failure.__cause__ = failure.__context__ = None
        raise failure

    def quote(self, said: Any) -> str:
        """Return as much of what a server said as can be read at a glance, without secrets."""
        return self.access.redact(str(said))[:_GLANCE]


class SDKConnection(Connection, ABC):
    """A connection through an SDK that retries by itself, as OpenAI's and Anthropic's do alike.

    Parameters
    ----------
    sdk : module
        With the exceptions ``APIStatusError``, ``APITimeoutError``, ``APIConnectionError`` and
        ``APIError``.
    client : object
        The SDK's client of this run.
    access : Access
        Where it sends requests to, for messages.
    """

    def __init__(self, sdk: ModuleType, client: Any, access: Access) -> None:
        super().__init__(access)
        self.client = client
        self._sdk = sdk
        self._once = client.with_options(max_retries=0)
        self._unreachable = False

    @abstractmethod
    def problem_of(self, error: Any) -> Problem:
        """Read an ``APIStatusError`` of the SDK."""

    def send(self, create: Callable[[Any], Any], *, once: bool = False) -> Any | Problem:
        """Let `create` send a request with a client; `once`: without retries.

        Problems are returned, so that failures are raised without the SDK's own error in their
        wake: that one holds the request, and with it the key.
        """
        self.check()
        sdk, access = self._sdk, self.access
        try:
            reply = create(self._once if once or self._unreachable else self.client)
        except sdk.APIStatusError as error:
            reply = self.problem_of(error)
        except sdk.APITimeoutError:
            reply = Problem(0, "no answer in time", timed_out=True)
        except sdk.APIConnectionError as error:
            reply = Problem(0, access.redact(str(error.__cause__ or error)))
        except sdk.APIError as error:
            reply = Problem(200, access.redact(str(error)))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            reply = Problem(200, access.redact(f"broken JSON: {error}"))
        is_lost = isinstance(reply, Problem) and reply.is_unreachable
        if not (once and is_lost):
            # Nobody answered after every retry: the next rows try once, until one gets through.
            self._unreachable = is_lost
        return reply
