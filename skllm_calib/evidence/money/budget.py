"""Budget: the most that may be spent, by all threads, clones and workers together."""

from __future__ import annotations

import json
import math
import os
import threading
import uuid
from collections import Counter
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from skllm_calib.evidence.storage import Storage
from skllm_calib.exceptions import InvalidInput
from skllm_calib.utils.progress import shared_in_call

__all__ = ["Amount", "Budget", "resolve_budget"]

# A worker takes what this many requests may cost from what is shared, in one transaction ...
_LEASE = 32
# ... and at most this part of what is left, so that near the end none holds what another needs.
_PART = 1 / 8


class Amount(NamedTuple):
    """Dollars and tokens."""

    usd: float = 0.0
    tokens: float = 0.0

    def plus(self, other: Amount, factor: float = 1) -> Amount:
        """Return the sum of this and a multiple of another."""
        return Amount(self.usd + factor * other.usd, self.tokens + factor * other.tokens)


class Budget:
    """The most that may be spent on requests: dollars, tokens, or both.

    It is checked before each request is sent, against an upper estimate of what that may take, and
    corrected when the answer says what it took. Failures that the server charges for, and requests
    that are sent again for another answer, count. When it is spent, the remaining rows fail with
    :class:`~skllm_calib.exceptions.BudgetExceeded`; every reply is kept in the cache, so that the
    same call with a larger budget asks for the remaining rows alone.

    Parameters
    ----------
    usd : float or None, default=None
        Dollars. They need a known price of the model: see `prices` of :class:`LLMClassifier`.
    tokens : int or None, default=None
        Tokens read and written.
    name : str or None, default=None
        A budget with a name is kept in the cache: all processes and machines that use this cache
        and this name spend from it together, now and in later runs. Without a name it belongs to
        this process and to the workers that it is sent to, until the program ends.

    Notes
    -----
    Clones of an estimator share its budget. What a worker that is killed had set aside, for the
    requests that were under way and some dozens more, counts as spent. Without a cache
    (``cache=None``) each process has the whole budget for itself.

    Examples
    --------
    >>> from skllm_calib import Budget, LLMClassifier
    >>> from skllm_calib.backends import TestingBackend
    >>> budget = Budget(tokens=1_000)
    >>> clf = LLMClassifier(TestingBackend(), classes=["ham", "spam"], cache=None, budget=budget)
    >>> clf.predict_proba(["You won a prize!", "Lunch at one?"]).shape
    (2, 2)
    >>> budget.spent["tokens"] == clf.usage_.n_tokens > 0
    True
    """

    def __init__(
        self, usd: float | None = None, *, tokens: int | None = None, name: str | None = None
    ) -> None:
        if usd is None and tokens is None:
            raise InvalidInput("Budget() has no limit: pass usd=5.0 or tokens=2_000_000", "usd")
        for parameter, value in (("usd", usd), ("tokens", tokens)):
            if value is not None and not _is_amount(value):
                raise InvalidInput(
                    f"{parameter}={value!r}: must be a number above 0, or None for no limit",
                    parameter,
                    value=value,
                )
        if name is not None and (not isinstance(name, str) or not name):
            raise InvalidInput(f"name={name!r}: must be a text, or None", "name", value=name)
        self.usd = usd
        self.tokens = tokens
        self.name = name
        self._key = f"name-{name}" if name is not None else f"id-{uuid.uuid4().hex}"
        self._is_shared = name is not None
        self._own: _Ledger | None = None

    @property
    def spent(self) -> dict[str, float]:
        """Dollars and tokens spent, as far as this process knows."""
        known = self._ledger.known()
        return {"usd": known.usd, "tokens": known.tokens}

    def reserve(self, amount: Amount, storage: Storage | None = None, *, thread: int = 0) -> bool:
        """Set aside what a request may take; False where the budget does not allow it.

        Parameters
        ----------
        amount : Amount
        storage : Storage or None, default=None
            Where the workers share the budget.
        thread : int, default=0
            Which thread waits for the answer.
        """
        shared = storage if self._is_shared else None
        return self._ledger.reserve(amount, self._limit, shared, thread)

    def reserve_more(self, amount: Amount) -> None:
        """Set more aside for requests that are under way and take more than was estimated."""
        self._ledger.reserve_more(amount)

    def settle(self, reserved: Amount, used: Amount, *, thread: int = 0) -> None:
        """Replace what was set aside by what was used."""
        self._ledger.settle(reserved, used, thread)

    def give_back(self, storage: Storage | None = None) -> None:
        """Give back what this process has set aside and needs no longer: at the end of a call."""
        if storage is not None and self._is_shared:
            self._ledger.give_back(storage)

    def may_be_freed(self, *, thread: int = 0) -> bool:
        """Whether other threads have set something aside, of which a part may not be needed."""
        return self._ledger.others_have_reserved(thread)

    @property
    def _limit(self) -> Amount:
        limits = (math.inf if one is None else float(one) for one in (self.usd, self.tokens))
        return Amount(*limits)

    @property
    def _ledger(self) -> _Ledger:
        """What this process has spent: one for all budgets of this name, while there are any."""
        if self._own is None or self._own.pid != os.getpid():  # a forked process holds nothing yet
            with _lock:
                found = _ledgers.get(self._key)
                if found is None or found.pid != os.getpid():
                    found = _ledgers[self._key] = _Ledger(self._key)
                self._own = found
        return self._own

    def __repr__(self) -> str:
        given = {"usd": self.usd, "tokens": self.tokens, "name": self.name}
        return f"Budget({', '.join(f'{k}={v!r}' for k, v in given.items() if v is not None)})"

    def __str__(self) -> str:
        parts = [] if self.usd is None else [f"${self.usd:,.2f}"]
        parts += [] if self.tokens is None else [f"{self.tokens:,} tokens"]
        return " and ".join(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Budget) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._key)

    def __getstate__(self) -> dict[str, Any]:
        self._is_shared = True  # whoever gets it spends from the same one
        return self._identity()

    def _identity(self) -> dict[str, Any]:
        return {"usd": self.usd, "tokens": self.tokens, "name": self.name, "key": self._key}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.usd, self.tokens, self.name = state["usd"], state["tokens"], state["name"]
        self._key = state["key"]
        self._is_shared = True
        self._own = None

    def __deepcopy__(self, memo: object) -> Budget:
        return self

    def __sklearn_clone__(self) -> Budget:
        return self  # a search spends from one budget


def resolve_budget(budget: Budget | float | None) -> Budget | None:
    """Return the budget that a parameter means; a number is that of one call, in dollars."""
    if budget is None or isinstance(budget, Budget):
        return budget
    if _is_amount(budget):
        usd = float(budget)
        return shared_in_call(f"budget of ${usd}", lambda: Budget(usd))
    raise InvalidInput(
        f"budget={budget!r}: must be a Budget(usd=...) or Budget(tokens=...), a number of dollars "
        "above 0 for one call, or None for no limit",
        "budget",
        value=budget,
    )


class _Ledger:
    """What this process has spent of a budget, and has set aside."""

    def __init__(self, key: str) -> None:
        self.pid = os.getpid()
        self._key = key
        self._lock = threading.Lock()
        self._spent = Amount()
        self._reserved = Amount()
        self._n_reserved = Counter[int]()  # by thread
        self._lease = Amount()  # taken from what is shared, and not yet reserved; below 0: a debt
        self._elsewhere = Amount()  # what others had taken when this process last looked

    def known(self) -> Amount:
        with self._lock:
            return self._spent.plus(self._elsewhere)

    def others_have_reserved(self, thread: int) -> bool:
        with self._lock:
            return any(n > 0 for other, n in self._n_reserved.items() if other != thread)

    def reserve(self, amount: Amount, limit: Amount, storage: Storage | None, thread: int) -> bool:
        with self._lock:
            if not _fits(self._spent.plus(self._reserved).plus(amount), limit):
                return False
            if storage is not None and not _fits(amount, self._lease):
                self._take(amount, limit, storage)
                if not _fits(amount, self._lease):
                    return False
            self._lease = self._lease.plus(amount, -1)
            self._reserved = self._reserved.plus(amount)
            self._n_reserved[thread] += 1
            return True

    def reserve_more(self, amount: Amount) -> None:
        with self._lock:
            self._lease = self._lease.plus(amount, -1)
            self._reserved = self._reserved.plus(amount)

    def settle(self, reserved: Amount, used: Amount, thread: int) -> None:
        with self._lock:
            self._reserved = self._reserved.plus(reserved, -1)
            self._n_reserved[thread] -= 1
            self._spent = self._spent.plus(used)
            self._lease = self._lease.plus(reserved).plus(used, -1)

    def give_back(self, storage: Storage) -> None:
        with self._lock:
            if not any(self._lease):
                return
            lease, self._lease = self._lease, Amount()

            def change(text: str | None) -> str:
                taken = _read(text).plus(lease, -1)
                self._elsewhere = taken.plus(self._spent, -1).plus(self._reserved, -1)
                return json.dumps(taken)

            storage.change(f"budget-{self._key}", change)

    def _take(self, amount: Amount, limit: Amount, storage: Storage) -> None:
        """Take what is missing for a request, and some for the next ones, from what is shared."""

        def change(text: str | None) -> str:
            taken = _read(text)
            left = limit.plus(taken, -1)
            # Where this process owes something, as for what it spent before it shared: all of it.
            missing = [max(0.0, a - held) for a, held in zip(amount, self._lease, strict=True)]
            if _fits(Amount(*missing), left):
                more = Amount(
                    *(
                        max(m, min(_LEASE * a, _PART * rest))
                        for m, a, rest in zip(missing, amount, left, strict=True)
                    )
                )
                self._lease = self._lease.plus(more)
                taken = taken.plus(more)
            held = self._lease.plus(self._reserved).plus(self._spent)
            self._elsewhere = taken.plus(held, -1)
            return json.dumps(taken)

        storage.change(f"budget-{self._key}", change)


_lock = threading.Lock()
_ledgers: WeakValueDictionary[str, _Ledger] = WeakValueDictionary()


def _fits(amount: Amount, limit: Amount) -> bool:
    return all(a <= most for a, most in zip(amount, limit, strict=True))


def _read(text: str | None) -> Amount:
    """Read what is taken from a budget; what cannot be read is an error, never nothing."""
    return Amount() if text is None else Amount(*map(float, json.loads(text)))


def _is_amount(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and value > 0 and math.isfinite(value)
