"""What servers with limits see of the limiter, in simulated time: minutes cost milliseconds."""

from __future__ import annotations

import math

import pytest
from simulated import Database, Plain, Process, Server, Time


def simulate(
    n_rows, n_threads, n_processes=1, *, is_shared=False, client=Process, own=(), **server
):
    """Return the server, the processes, the seconds it took, and the database."""
    time = Time()
    server, database = Server(time, **server), Database(time) if is_shared else None
    began = time.now
    own = {"database": database, **dict(own)} if client is Process else {}
    made = [
        client(time, server, n_rows // n_processes, n_threads, **own) for _ in range(n_processes)
    ]
    time.run(began + 3600)
    took = max(math.inf if p.ended_at is None else p.ended_at for p in made) - began
    assert len(server.arrivals) - server.n_refused == n_rows - sum(p.n_failed for p in made)
    return server, made, took, database


@pytest.mark.parametrize(("limit", "n_threads"), [(20, 8), (300, 8), (300, 64)])
@pytest.mark.parametrize("n_processes", [1, 4])
def test_a_given_limit_holds_in_every_minute(limit, n_threads, n_processes):
    own = {"limits": (limit, None)}
    server, _, took, database = simulate(
        3 * limit, n_threads, n_processes, is_shared=n_processes > 1, own=own, limit=limit
    )
    assert server.n_refused == 0
    assert 0.9 * limit <= server.most_in(60.0) <= limit
    assert took < 1.08 * 120 + 5  # a burst, and two times the same after a minute
    if database is not None:
        assert database.n_changes < 3 * took * n_processes + 20


@pytest.mark.parametrize("kind", ["sliding", "bucket"])
@pytest.mark.parametrize("n_processes", [1, 4])
def test_a_limit_that_headers_tell_holds_from_the_first_answer_on(kind, n_processes):
    server, _, took, _ = simulate(
        900, 8, n_processes, is_shared=n_processes > 1, limit=300, kind=kind, has_headers=True
    )
    assert server.n_refused == 0
    assert took < 1.08 * 120 + 5


@pytest.mark.parametrize("kind", ["sliding", "bucket"])
@pytest.mark.parametrize("tells_when", [True, False])
@pytest.mark.parametrize("n_processes", [1, 4])
def test_where_nothing_is_told_few_are_refused_and_no_row_fails(kind, tells_when, n_processes):
    server, made, took, _ = simulate(
        1200, 8, n_processes, is_shared=n_processes > 1, limit=300, kind=kind, tells_when=tells_when
    )
    assert sum(p.n_failed for p in made) == 0
    assert server.n_refused < 180  # 15 %
    assert took < 1.15 * 180 + 10
    plain, _, _, _ = simulate(
        1200, 8, n_processes, client=Plain, limit=300, kind=kind, tells_when=tells_when
    )
    assert server.n_refused < plain.n_refused


def test_a_server_that_answers_few_at_once():
    server, made, took, _ = simulate(1500, 64, limit=1e9, most_at_once=10)
    assert made[0].n_failed == 0
    assert server.n_refused < 75
    assert took < 2 * 1500 * server.seconds / 10


def test_a_server_that_answers_one_a_second():
    server, made, took, _ = simulate(60, 8, limit=1, period=1.0, tells_when=False)
    assert made[0].n_failed == 0
    assert server.n_refused < 30
    assert took < 2 * 60


@pytest.mark.parametrize("own", [{}, {"limits": (10_000, None)}])
def test_a_server_that_refuses_nothing_gets_all_that_is_allowed_at_once(own):
    server, _, took, _ = simulate(640, 64, own=own, limit=1e9)
    assert server.most_seen == 64
    assert took < 1.3 * simulate(640, 64, client=Plain, limit=1e9)[2]


def test_tokens_are_counted_as_they_were_used():
    # Guessed as 100, used 10: 300 tokens are 30 requests a minute.
    own = {"limits": (None, 300), "tokens": (100, 10)}
    server, _, took, _ = simulate(84, 8, own=own, limit=1e9)
    assert 27 <= server.most_in(60.0) <= 30
    assert took < 1.08 * 120 + 10


def test_a_request_of_more_tokens_than_a_minute_allows_is_sent_alone():
    own = {"limits": (None, 300), "tokens": (1000, 1000)}
    server, _, took, _ = simulate(3, 8, own=own, limit=1e9)
    assert server.most_in(60.0) == 1
    assert took < 130


def test_what_a_killed_worker_took_is_free_after_a_minute():
    time = Time()
    server, database = Server(time, limit=300), Database(time)
    own = {"limits": (300, None), "database": database}
    killed, other = (Process(time, server, 600, 8, **own) for _ in range(2))
    time.at(1.0, lambda: setattr(killed, "is_dead", True))
    time.run(time.now + 3600)
    assert server.n_refused == 0
    assert server.most_in(60.0) <= 300
    assert other.n_failed == 0
    assert other.ended_at - 1_000_000 < 130


def test_other_users_of_an_account_are_seen_in_what_remains():
    time = Time()
    server = Server(time, limit=300, kind="bucket", has_headers=True)
    made = [Process(time, server, 600, 8) for _ in range(2)]  # that know nothing of each other
    time.run(time.now + 3600)
    assert sum(p.n_failed for p in made) == 0
    assert server.n_refused < 120  # 10 %
    assert max(p.ended_at for p in made) - 1_000_000 < 1.15 * 240


def test_a_run_that_ends_gives_back_what_it_did_not_need():
    time = Time()
    server, database = Server(time, limit=20), Database(time)
    own = {"limits": (20, None), "database": database}
    short = Process(time, server, 1, 16, **own)
    time.run(time.now + 5)
    assert short.ended_at is not None
    began, other = time.now, Process(time, server, 19, 16, **own)
    time.run(time.now + 3600)
    assert other.ended_at - began < 10
    assert server.n_refused == 0
