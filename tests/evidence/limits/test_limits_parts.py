"""The parts of the limiter, each by itself."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from skllm_calib.evidence.limits import limiter as limiter_module
from skllm_calib.evidence.limits.flow import Flow
from skllm_calib.evidence.limits.limiter import Limiter, Sender
from skllm_calib.evidence.limits.told import (
    Learnt,
    Told,
    guessed_tokens,
    limits_told,
    used_tokens,
)
from skllm_calib.evidence.limits.window import LEASE, Book, Order, fill
from skllm_calib.exceptions import StorageError


def order(n, limit=10.0, **fields):
    return Order({}, (1.0, 0.0), (n, 0.0), (limit, math.inf), **fields)


def test_a_book_counts_for_a_minute_what_was_taken():
    text, first = fill(order(7), None, 1000.0)
    text, second = fill(order(7), text, 1000.2)
    assert (first.amounts, second.amounts) == ([7.0, math.inf], [3.0, math.inf])
    text, third = fill(order(7), text, 1010.0)
    assert not third.amounts
    assert 50.5 <= third.wait <= 52.0
    assert not fill(order(7), text, 1060.0)[1].amounts
    assert fill(order(7), text, 1010.001 + third.wait)[1].amounts == [7.0, math.inf]


def test_a_book_takes_back_what_was_not_needed():
    text, granted = fill(order(10), None, 1000.0)
    text, _ = fill(Order({granted.step: (-4.0, 0.0)}), text, 1000.3)
    assert fill(order(10), text, 1000.4)[1].amounts == [4.0, math.inf]
    # What is older than a minute is of no interest.
    assert Book(fill(Order({granted.step: (5.0, 0.0)}), None, 1070.0)[0], 1070.0).free((1.0,)) == [
        1
    ]


def test_a_worker_takes_only_a_part_where_others_may_need_some():
    text, first = fill(order(10, fraction=0.5), None, 1000.0)
    assert first.amounts[0] == 5.0
    assert fill(order(10, fraction=0.5), text, 1000.0)[1].amounts[0] == 3.0


def test_a_pause_is_seen_by_all_and_ends():
    text, _ = fill(Order({}, pause=20.0), None, 1000.0)
    assert fill(Order({}), text, 1005.0)[1].pause == pytest.approx(15.0)
    assert fill(Order({}), text, 1021.0)[1].pause == 0.0


def test_a_clock_that_was_set_back_stops_nobody():
    text, _ = fill(order(10, pause=60.0), None, 1_000_000.0)
    _, granted = fill(order(10), text, 1000.0)
    assert granted.amounts[0] == 10.0
    assert granted.pause == 0.0


def test_a_book_stays_small():
    text = None
    for i in range(1000):
        text, _ = fill(order(5, 1e6), text, 1000.0 + i * 0.3)
    assert len(text) < 3000
    assert set(json.loads(text)) == {"used", "pause"}


def started(n):
    flow = Flow(random.Random(0))
    flow.ceiling = n
    for _ in range(n):
        assert flow.wait(0.0) == 0.0  # all at once
        flow.begin(0.0)
    return flow


def test_refusals_of_what_was_sent_together_count_once():
    flow = started(8)
    for _ in range(8):
        flow.refuse(0.0, 1.0, 2.0)
    assert (flow.n_events, flow.n_refused, flow.in_flight) == (1, 8, 0)
    assert 2.0 <= flow.wait(1.0) <= 2.2

    def sent(now):
        while flow.in_flight < 8 and flow.wait(now) == 0.0:
            flow.begin(now)
        n = flow.in_flight
        for _ in range(n):
            flow.end(now, now + 0.1, is_answer=True)
        return n

    rounds = [sent(3.2 + 0.25 * i) for i in range(80)]
    assert rounds[0] == 1
    assert rounds == sorted(rounds)
    assert 2 <= rounds[3] <= 4  # within a second half of them, as often as they were refused
    assert rounds[12] < 8
    assert rounds[40] == 8
    assert flow.window(60.0) == math.inf  # all that is wanted, as before


def test_pauses_grow_while_nothing_is_answered():
    flow, now, pauses = started(1), 1.0, []
    for _ in range(6):
        flow.refuse(now - 0.1, now, None)
        pauses.append(flow.wait(now))
        now += pauses[-1] + 1.0
        flow.begin(now - 0.1)
    assert 0.25 <= pauses[0] <= 0.6
    assert 3.9 <= pauses[5] <= 8.5
    # Also where a server says that it will answer sooner, and does not.
    flow.refuse(now - 0.1, now, 0.01)
    assert flow.wait(now) > 3.9


def test_below_one_in_flight_the_gaps_grow():
    flow = started(1)
    flow.end(0.0, 0.2, is_answer=True)
    flow.begin(1.0)
    flow.refuse(1.0, 1.2, 0.5)
    flow.begin(2.0)
    flow.end(2.0, 2.2, is_answer=True)
    assert 0.0 < flow.wait(2.2) < 1.0


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"x-ratelimit-limit-{}": "500", "x-ratelimit-remaining-{}": "499",
          "x-ratelimit-reset-{}": "120ms"}, (500, 499, 0.12, None)),
        ({"x-ratelimit-limit-{}": "500", "x-ratelimit-remaining-{}": "0",
          "x-ratelimit-reset-{}": "1m2.5s"}, (500, 0, 62.5, None)),
        ({"anthropic-ratelimit-{}-limit": "50", "anthropic-ratelimit-{}-remaining": "0",
          "anthropic-ratelimit-{}-reset": TOMORROW},
         (50, 0, pytest.approx(86_400, abs=7200), None)),
        ({"x-ratelimit-limit-{m}": "4", "x-ratelimit-remaining-{m}": "3"}, (4, 3, None, None)),
        ({"x-ratelimit-limit-{}": "10", "x-ratelimit-renewalperiod-{}": "10"},
         (10, None, None, 10)),
        ({"x-ratelimit-limit-{}": "7", "x-ratelimit-reset-{}": "soon"}, (7, None, None, None)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("which", [0, 1])
def test_headers_of_several_servers(which, headers, told):
    names = {"": ("requests", "tokens"), "m": ("req-minute", "tokens-minute")}
    sent = {
        name.format(names[""][which], m=names["m"][which]): value for name, value in headers.items()
    }
    read = limits_told(sent)
    assert read[1 - which] is None
    assert tuple(None if math.isnan(x) else x for x in read[which]) == told


@pytest.mark.parametrize(
    ("answers", "per_minute"),
    [
        ([Told(500, 499, 0.12)], math.inf),  # no need to know yet
        ([Told(500, 499, 0.12), Told(500, 200, 36.0)], 500),
        ([Told(500)], 500),
        ([Told(500, 10)], 500),
        ([Told(10, 2, 1.0, 10.0)], 60),  # ten in ten seconds
        ([Told(6, 5, 0.2), Told(6, 3, 0.5), Told(6, 2, 0.66), Told(6, 5, 0.2)], 360),  # a second
        ([Told(600, 400, 40.0), Told(600, 20, 3.0)], 600),  # at the end of a minute
        ([Told(600, 20, 3.0), Told(600, 590, 59.0), Told(600, 200, 40.0)], 600),
        ([Told(500, 200, 36.0), Told(900, 100, 50.0)], 900),
        *(([Told(500, 1, 0.0, period)], 500) for period in (0.0, -60.0, math.inf)),
    ],
)
def test_what_many_answers_tell_of_a_limit(answers, per_minute):
    learnt = Learnt()
    for told in answers:
        learnt.note(told)
    assert learnt.per_minute == pytest.approx(per_minute)


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "", "many", "inf", "1e-300"])
def test_headers_that_say_nothing(limit):
    assert limits_told({"x-ratelimit-limit-requests": limit}) == (None, None)


def test_tokens_are_guessed_and_read():
    body = {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "a" * 399}]}
    assert guessed_tokens(body) == 20 + 101
    assert guessed_tokens({"input": "\u4f60\u597d" * 4}) == 6
    assert used_tokens({"usage": {"total_tokens": 7}}) == 7
    assert used_tokens({"usage": {"input_tokens": 3, "output_tokens": 2}}) == 5
    assert used_tokens({"usage": {"prompt_tokens": 3, "completion_tokens": 2}}) == 5
    assert used_tokens({"usage": {"prompt_tokens": None}}) is None
    assert used_tokens({}) is used_tokens("text") is None


def test_threads_get_their_turn_in_order_and_leave_at_once():
    limiter, sender = Limiter("account"), Sender((3, None), 2)
    limiter.join(sender)
    assert all(limiter.enter(sender, 0.0) for _ in range(3))
    ended = []
    waiting = [
        threading.Thread(target=lambda: ended.append(limiter.enter(sender, 0.0)), daemon=True)
        for _ in range(20)
    ]
    for thread in waiting:
        thread.start()
    time.sleep(0.1)
    assert not ended
    began = time.monotonic()
    limiter.leave(sender)
    for thread in waiting:
        thread.join(5)
    assert ended == [None] * 20
    assert time.monotonic() - began < 2


def test_the_least_limit_of_the_runs_at_this_moment_holds():
    limiter, runs = Limiter("account"), [Sender((9, None), 1), Sender((None, 80), 1)]
    for run in runs:
        limiter.join(run)
    assert limiter.limits == (9, 80)
    limiter.leave(runs[0])
    assert limiter.limits == (math.inf, 80)
    limiter.leave(runs[0])  # twice is once
    limiter.leave(runs[1])
    assert limiter.limits == (math.inf, math.inf)


class Broken:
    def __init__(self, n):
        self.path = f"broken {n}"
        self.n = n

    def change_at(self, name, change, *, durable):
        self.n -= 1
        if self.n >= 0:
            raise StorageError("down", "broken")
        return change(None, 1000.0)


def test_a_database_that_is_away_for_a_moment_is_waited_for(monkeypatch):
    now = [0.0]
    limiter, sender = Limiter("account", clock=lambda: now[0]), Sender((100, None), 1)
    limiter.join(sender, Broken(3))
    for _ in range(3):
        found = limiter.attempt(0.0, 1)
        assert isinstance(found, Order)
        limiter.look(found)
        assert limiter.attempt(0.0, 1) > 0.5
        now[0] += 1.1
    limiter.look(limiter.attempt(0.0, 1))
    assert limiter.attempt(0.0, 1).tokens == 0.0
    monkeypatch.setattr(limiter_module, "_PATIENCE", 0.0)
    limiter.join(Sender((100, None), 1), Broken(4))
    limiter.look(limiter.attempt(0.0, 1))
    now[0] += 1.1
    with pytest.raises(StorageError):
        limiter.look(limiter.attempt(0.0, 1))


def test_a_share_ends_with_its_moment():
    now = [0.0]
    limiter, sender = Limiter("account", clock=lambda: now[0]), Sender((100, None), 8)
    limiter.join(sender)
    limiter.look(limiter.attempt(0.0, 1))
    assert limiter.attempt(0.0, 1).begun == 0.0
    now[0] = LEASE + 0.01
    assert isinstance(limiter.attempt(0.0, 1), Order)


class Slow:
    """A database that takes longer for a change than a share would last."""

    path = "slow"

    def __init__(self, now):
        self.now, self.text = now, None

    def change_at(self, name, change, *, durable):
        self.now[0] += 1.0
        self.text = change(self.text, 1000.0 + self.now[0])
        self.now[0] += 1.0
        return self.text


def test_where_the_database_is_slow_shares_last_longer():
    now, n_looks, n_sent = [0.0], 0, 0
    limiter, sender = Limiter("account", clock=lambda: now[0]), Sender((1000, None), 8)
    limiter.join(sender, Slow(now))
    while now[0] < 60.0:
        found = limiter.attempt(0.0, 8)
        if isinstance(found, Order):
            limiter.look(found)
            n_looks += 1
        elif isinstance(found, float):
            now[0] += found
        else:
            now[0] += 0.1
            limiter.done(found, {}, None)
            n_sent += 1
    assert n_looks < 20
    assert n_sent > 200
