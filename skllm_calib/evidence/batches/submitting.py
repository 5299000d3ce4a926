"""Rows handed in and collected, and where they stand."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from skllm_calib.evidence.asking import Done, ask_each
from skllm_calib.evidence.backends.hosted.backend import HostedBackend
from skllm_calib.evidence.batches.backend import AwaitedRow, BatchBackend, digest_of
from skllm_calib.evidence.batches.ledger import Ledger
from skllm_calib.evidence.cache import ResponseCache
from skllm_calib.evidence.prepared_rows import PreparedRows
from skllm_calib.evidence.usage import Usage
from skllm_calib.exceptions import BackendError, InvalidInput

__all__ = ["BatchStatus", "submit_rows"]


@dataclass(frozen=True)
class BatchStatus:
    """Where the rows of a batch stand.

    Attributes
    ----------
    n_rows : int
    n_done : int
        Rows with an answer in the cache: ``predict_proba`` asks nothing for them.
    n_waiting : int
        Rows of which a question is in a batch that is not over.
    n_failed : int
        Rows that cannot be answered, or whose answer cannot be used.
    ids : tuple of str
        The batches that are waited for, as the provider names them.
    failure : str
        Why the first row of those failed.
    usage : Usage
        What came in with this call.

    Examples
    --------
    >>> from skllm_calib.evidence.batches import BatchStatus
    >>> status = BatchStatus(1000, n_done=2, n_waiting=998, ids=("batch_123",))
    >>> status
    BatchStatus(n_rows=1000, n_done=2, n_waiting=998, n_failed=0, ids=('batch_123',))
    >>> status.is_done
    False
    """

    n_rows: int
    n_done: int = 0
    n_waiting: int = 0
    n_failed: int = 0
    ids: tuple[str, ...] = ()
    failure: str = ""
    usage: Usage = field(default_factory=Usage, compare=False)

    @property
    def is_done(self) -> bool:
        """Whether nothing is waited for any more."""
        return self.n_waiting == 0

    def __repr__(self) -> str:
        names = ["n_rows", "n_done", "n_waiting", "n_failed", "ids"]
        names += ["failure"] if self.failure else []
        return f"BatchStatus({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def submit_rows(prepared: PreparedRows, wait: float | None = None) -> BatchStatus:
    """Collect what is finished of the questions about rows, and hand in what is not yet in a batch.

    Parameters
    ----------
    prepared : PreparedRows
    wait : float or None, default=None
        Seconds between two looks, until nothing is waited for; None looks once.

    Raises
    ------
    InvalidInput
        If the model has no batches, or there is no cache.
    BackendError
        If nothing can be handed in or looked at; BudgetExceeded if it may take more than the budget
        allows.
    """
    backend, cache = prepared.model.backend, prepared.model.cache
    if not isinstance(backend, HostedBackend):
        raise InvalidInput(
            f"model={backend!r} has no batches: OpenAI, Anthropic and Mistral do; predict_proba "
            "asks it row by row",
            "model",
            value=backend,
        )
    if cache is None:
        raise InvalidInput(
            "cache=None: a batch needs a cache, which knows what is under way and keeps what comes",
            "cache",
        )
    if wait is not None and not wait >= 0:
        raise InvalidInput(f"wait={wait!r}: must be a number of seconds, or None", "wait")
    prepared.check_budget_of_batch()
    while True:
        status = _look(prepared, backend, cache)
        if wait is None or status.is_done:
            return status
        time.sleep(wait)
        while not _is_worth_a_look(backend, status.ids):
            time.sleep(wait)


def _look(prepared: PreparedRows, backend: HostedBackend, cache: ResponseCache) -> BatchStatus:
    with (
        closing(backend.batch_service()) as service,
        Ledger(service, cache.storage, digest_of(backend.identity())) as ledger,
    ):
        batches = BatchBackend(backend, ledger, cache.storage)
        model = replace(
            prepared.model,
            backend=batches,
            # What was paid for and is no answer stays one here, however often one looks.
            cache=ResponseCache(cache.path, keep_failures=True),
            paid_failures={},
        )
        status = _tally(ask_each(model, prepared.asked(), n_rows=len(prepared.rows)))
        if batches.failure is not None:
            raise batches.failure
        ledger.hand_in()
        return replace(status, ids=ledger.awaited)


def _is_worth_a_look(backend: HostedBackend, ids: Sequence[str]) -> bool:
    """Tell whether a batch is over: a whole look reads all rows again."""
    with closing(backend.batch_service()) as service:
        try:
            return not ids or any(service.look(name).is_over for name in ids)
        except BackendError:
            return True  # which says what is wrong


def _tally(records: Iterable[Done]) -> BatchStatus:
    n_done = n_waiting = n_failed = 0
    first, failure = math.inf, ""
    usage = Usage()
    for i, record in records:
        usage += record.usage
        if record.failure is None:
            n_done += 1
        elif isinstance(record.failure, AwaitedRow):
            n_waiting += 1
        else:
            n_failed += 1
            if i < first:
                first, failure = i, str(record.failure)
    return BatchStatus(
        n_rows=n_done + n_waiting + n_failed,
        n_done=n_done,
        n_waiting=n_waiting,
        n_failed=n_failed,
        failure=failure,
        usage=usage,
    )
