"""What one call may spend, and what it has: kept beside the requests as they go and come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.evidence.money.budget import Amount, Budget
from skllm_calib.evidence.money.prices import ENVIRONMENT, Price, Prices
from skllm_calib.evidence.money.tokens import TokenCounter
from skllm_calib.evidence.storage import Storage
from skllm_calib.evidence.usage import Usage
from skllm_calib.exceptions import BackendError, BudgetExceeded, InvalidInput
from skllm_calib.utils.layout import dollars

__all__ = ["Meter", "Spending", "usage_of_answer"]


_N_UNKNOWN = 32  # requests that are sent before the first answer says what they take


@dataclass(frozen=True)
class Spending:
    """What a user says of money.

    Attributes
    ----------
    prices : mapping or path or None
        Prices that go before those of the table.
    budget : Budget or None
        The most that may be spent.
    note : callable
        Is told what each call has used.
    """

    prices: Prices | None = None
    budget: Budget | None = None
    note: Callable[[Usage], None] = field(default=lambda usage: None)


class Meter:
    """Admits requests as far as a budget goes, and counts what they took.

    Parameters
    ----------
    spending : Spending
    price : Price or None
        None where it is not known.
    counter : TokenCounter
    storage : Storage or None
        Where workers share the budget.

    Attributes
    ----------
    usage : Usage
        What was used so far.
    """

    def __init__(
        self,
        spending: Spending,
        price: Price | None,
        counter: TokenCounter,
        storage: Storage | None,
    ) -> None:
        self._price, self._budget, self._note = price, spending.budget, spending.note
        self._counter = counter
        self._storage = storage
        self._reserved: dict[str, Amount] = {}
        self._factor = 1.0  # requests take up to so many times what was estimated
        self._has_settled = False
        self._thread = threading.get_ident()
        self.usage = self._told = Usage()

    def admit(self, key: str, request: Request) -> bool:
        """Tell whether a request may be sent now; what it may take is then set aside.

        Raises
        ------
        InvalidInput
            If the budget is one of money, and the price is not known.
        """
        if self._budget is None:
            return True
        if not self._has_settled and len(self._reserved) >= _N_UNKNOWN:
            return False  # the estimate may be wrong: see first
        self._check_priced(self._budget)
        amount = self._most_of(request)
        if not self._budget.reserve(amount, self._storage, thread=self._thread):
            return False
        self._reserved[key] = amount
        return True

    def check(self, amount: Amount) -> None:
        """Raise BudgetExceeded if the budget does not allow all of what will be handed in at once.

        Raises
        ------
        InvalidInput
            As for :meth:`admit`.
        """
        if self._budget is None:
            return
        self._check_priced(self._budget)
        if not self._budget.reserve(amount, self._storage, thread=self._thread):
            most = f"up to {dollars(amount.usd)} and {amount.tokens:,.0f} tokens"
            raise BudgetExceeded(f"the batch may take {most}: {self.exceeded()}")
        self._budget.settle(amount, Amount(), thread=self._thread)
        self._budget.give_back(self._storage)

    def settle(self, key: str, answer: Reply | BackendError) -> None:
        """Count what a request took; a failure that was not charged for took nothing."""
        used = usage_of_answer(answer, self._price)
        self.usage += used
        if (reserved := self._reserved.pop(key, None)) is not None and self._budget is not None:
            # Where a server does not say how many tokens it charges for, the estimate stands.
            counted = used.n_tokens or not used.n_requests
            amount = Amount(used.usd, used.n_tokens) if counted else reserved
            self._budget.settle(reserved, amount, thread=self._thread)
            self._has_settled = True
            self._learn(amount.tokens / reserved.tokens)

    def _learn(self, ratio: float) -> None:
        """Set more aside where a request took more than was estimated, as others may, too."""
        if ratio <= 1 or self._budget is None:
            return
        self._factor *= ratio
        more = Amount()
        for key, amount in self._reserved.items():
            self._reserved[key] = Amount().plus(amount, ratio)
            more = more.plus(amount, ratio - 1)
        self._budget.reserve_more(more)

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget."""
        return self._budget is not None

    def may_wait(self) -> bool:
        """Whether requests of other threads are under way, within the same budget."""
        return self._budget is not None and self._budget.may_be_freed(thread=self._thread)

    def count_hits(self, n: int) -> None:
        """Count requests that the cache answered."""
        if n:
            self.usage += Usage(n_cache_hits=n)

    def tell(self) -> None:
        """Tell what was used since this was told last."""
        self._note(self.usage - self._told)
        self._told = self.usage

    def drop_last(self, n: int) -> None:
        """Give back what was set aside for the last requests, which were not sent after all."""
        for key in list(self._reserved)[max(0, len(self._reserved) - n) :]:
            if self._budget is not None:
                self._budget.settle(self._reserved.pop(key), Amount(), thread=self._thread)

    def close(self) -> None:
        """Give back what was set aside and not used, and tell what was used."""
        if self._budget is not None:
            for reserved in self._reserved.values():  # sent, and nobody waits for the answer
                self._budget.settle(reserved, reserved, thread=self._thread)
            self._reserved = {}
            self._budget.give_back(self._storage)
        self.tell()

    def exceeded(self) -> BudgetExceeded:
        """Return what to raise where nothing more may be sent."""
        budget, spent = self._budget, self._budget.spent if self._budget else {}
        parts = []
        if budget is not None and budget.usd is not None:
            parts.append(f"{dollars(spent['usd'])} of {dollars(budget.usd)}")
        if budget is not None and budget.tokens is not None:
            parts.append(f"{spent['tokens']:,.0f} of {budget.tokens:,} tokens")
        kept = (
            "nothing is kept, because of cache=None"
            if self._storage is None
            else "all replies are kept: the same call with a larger budget asks for the rest alone"
        )
        return BudgetExceeded(
            f"the budget does not allow another request ({' and '.join(parts)} spent); {kept}"
        )

    def _check_priced(self, budget: Budget) -> None:
        if self._price is None and budget.usd is not None:
            raise InvalidInput(
                f"budget={budget!r} is in dollars, but the price of this model is not known: "
                "pass prices={MODEL: (READ, WRITTEN)} in dollars per million tokens, or a file of "
                f"prices in the environment variable {ENVIRONMENT}, or limit tokens with "
                "Budget(tokens=...)",
                "budget",
                value=budget,
            )

    def _most_of(self, request: Request) -> Amount:
        count = self._counter.count(request)
        (_, read), (_, written) = count.prompt, count.completion
        price = self._price
        is_decision = bool(request.choices)
        usd = price.cost(read, written, is_decision=is_decision) if price is not None else 0.0
        return Amount(self._factor * usd, self._factor * (read + written))


def usage_of_answer(answer: Reply | BackendError, price: Price | None) -> Usage:
    """Return what an answer took that was not in the cache."""
    if isinstance(answer, Reply):
        counts = answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens
    elif not any(counts := answer.billed_tokens):
        return Usage()
    prompt, completion, cached = counts
    is_decision = isinstance(answer, Reply) and bool(answer.decision)
    in_batch = isinstance(answer, Reply) and answer.batched
    usd = 0.0
    if price is not None:
        usd = price.cost(prompt, completion, cached, is_decision=is_decision, in_batch=in_batch)
    return Usage(1, 0, prompt, completion, cached, int(in_batch), usd, int(price is None))
