"""What keeping a reply costs: one transaction per reply against replies that go in together.

Both ways keep the same replies, in files of their own, in turns. Bytes written are those that the
process gave to the system (``wchar`` of ``/proc/self/io``, so Linux only), the checkpoints of
SQLite included; bytes kept are those of keys and values. Both ways survive ``kill -9`` after each
reply. ``--postgres`` adds a PostgreSQL server of this script. Reading is timed without what is in
memory already: replies come as objects, a thousand at a time, in random order.

Run, in the repository: ``python benchmarks/cache.py --postgres``; ``--n-large 5000000`` for size
and times of one large file.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from skllm_calib import ResponseCache
from skllm_calib.backends import Reply
from skllm_calib.evidence.label_tokens import Distribution, Token
from skllm_calib.evidence.storage.sqlite_rows import SCHEMA
from skllm_calib.evidence.workers import Worker
from skllm_calib.utils.sqlite import SQLiteFile

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "evidence" / "storage"))
from postgres_server import PostgresServer

PART = 1_000


def typical_reply(i: int, n_tokens: int = 20) -> str:
    """Return a reply with its likeliest tokens, as a hosted model shows them."""
    tokens = tuple(Token(f" token{i * j % 997}".encode(), -0.123456 * j) for j in range(n_tokens))
    first = Distribution(b"", tokens, 0.987654, 0.0001234, n_tokens)
    return Reply("A", (first,), "gpt-4.1-mini-2025-04-14", "fp_1234567890", 321, 1).to_json()


def one_transaction_each(path: Path, replies: dict[str, str]) -> None:
    """Keep replies as the cache did before: in the order of the hashes, a transaction each."""
    file = SQLiteFile(path, SCHEMA)
    connection = file.connect()
    connection.execute("DROP TABLE replies")
    connection.execute(
        "CREATE TABLE replies (key TEXT PRIMARY KEY, value TEXT NOT NULL, created REAL NOT NULL) "
        "WITHOUT ROWID"
    )
    owner = f"host/1234/{'0' * 32}"
    with file.writing():
        connection.execute("INSERT INTO owners VALUES (?, ?)", (owner, time.time() + 600))
        connection.executemany("INSERT INTO claims VALUES (?, ?)", [(k, owner) for k in replies])
    for key, value in replies.items():
        with file.writing():
            now = time.time()
            connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?)", (key, value, now))
            connection.execute(
                "UPDATE owners SET until = ? "
                "WHERE owner = (SELECT owner FROM claims WHERE key = ?)",
                (now + 600, key),
            )
            connection.execute("DELETE FROM claims WHERE key = ?", (key,))
    with file.writing():
        connection.execute("DELETE FROM owners")


def together(path: Path | str, replies: dict[str, str]) -> None:
    """Keep replies as a worker does."""
    worker = Worker(ResponseCache(path), str)
    worker.claim(list(replies))
    for key, value in replies.items():
        worker.keep(key, value)
    worker.release()


@contextmanager
def postgres() -> Iterator[Callable[[], str]]:
    """Give what returns addresses of databases that vanish afterwards."""
    server = PostgresServer()
    try:
        yield server.new_address
    finally:
        server.close()


def reading(path: Path | str, keys: Sequence[str]) -> float:
    """Return how many replies a second are looked up and read."""
    worker = Worker(ResponseCache(path), Reply.from_json)
    keys = random.Random(0).sample(keys, len(keys))
    start = time.perf_counter()
    n = sum(len(worker.known(keys[i : i + PART])) for i in range(0, len(keys), PART))
    assert n == len(keys)
    return n / (time.perf_counter() - start)


def large(n: int) -> None:
    """Print size and times of a file of many replies."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "replies.sqlite"
        cache, kept, start = ResponseCache(path), 0, time.perf_counter()
        for first in range(0, n, PART):
            part = {key_of(i): typical_reply(i) for i in range(first, min(n, first + PART))}
            kept += sum(len(key) + len(value) for key, value in part.items())
            cache.set_many(part)
        written = time.perf_counter() - start
        rate = reading(path, [key_of(i) for i in random.Random(1).sample(range(n), n // 50)])
        size = path.stat().st_size
        print(
            f"{n:,} replies: {size / 1e9:.2f} GB ({size / n:.0f} bytes a reply, {kept / n:.0f} of "
            f"them key and value), made and put there at {n / written:,.0f} replies/s; of one in "
            f"fifty, in random order, {rate:,.0f} are read a second"
        )


def key_of(i: int) -> str:
    return hashlib.sha256(b"%d" % i).hexdigest()


def n_written() -> int:
    """Return how many bytes this process has written so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


class Measured(NamedTuple):
    """What one way took."""

    written: float  # bytes; NaN where another process writes them
    seconds: float
    size: int
    read: float  # replies a second


def measure(
    keep: Callable[[Path | str, dict[str, str]], None], replies: dict[str, str], database: str
) -> Measured:
    """Keep and read replies, in a new file or in a database."""
    with tempfile.TemporaryDirectory() as folder:
        path = database or Path(folder) / "replies.sqlite"
        before, start = n_written(), time.perf_counter()
        keep(path, replies)
        if isinstance(path, Path):
            SQLiteFile(path, SCHEMA).connect().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        seconds = time.perf_counter() - start
        written = math.nan if database else n_written() - before
        cache = ResponseCache(path)
        assert cache.get_many(list(replies)) == replies
        return Measured(written, seconds, cache.stats().n_bytes, reading(path, list(replies)))


def compare(sizes: Sequence[int], n_rounds: int, new_address: Callable[[], str] | None) -> None:
    """Print a line for each number of replies and each way."""
    ways: dict[str, tuple[Any, Callable[[], str]]] = {
        "a transaction each": (one_transaction_each, str),
        "together": (together, str),
    }
    if new_address:
        ways["PostgreSQL"] = together, new_address
    print(
        f"{'replies':>8}  {'way':<18}  {'written / kept':>14}  {'replies/s':>9}  "
        f"{'size / kept':>11}  {'read/s':>7}"
    )
    for n in sizes:
        replies = {key_of(i): typical_reply(i) for i in range(n)}
        kept = sum(len(key) + len(value) for key, value in replies.items())
        rounds = [
            {name: measure(keep, replies, new()) for name, (keep, new) in ways.items()}
            for _ in range(n_rounds)
        ]
        for name in ways:
            median = Measured(
                *(
                    statistics.median(figures)
                    for figures in zip(*(r[name] for r in rounds), strict=True)
                )
            )
            print(
                f"{n:>8,}  {name:<18}  {median.written / kept:>14.1f}  {n / median.seconds:>9,.0f}"
                f"  {median.size / kept:>11.2f}  {median.read:>7,.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-replies", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--n-large", type=int, help="replies of one large file")
    args = parser.parse_args()
    with postgres() if args.postgres else nullcontext() as new_address:
        compare(args.n_replies, args.rounds, new_address)
    if args.n_large:
        large(args.n_large)


if __name__ == "__main__":
    main()
