"""What keeping a reply costs: one transaction per reply against replies that go in together.

Both ways keep the same replies, in files of their own, in turns. Bytes written are those that the
process gave to the system (``wchar`` of ``/proc/self/io``, so Linux only), the checkpoints of
SQLite included; bytes kept are those of keys and values. Both ways survive ``kill -9`` after each
reply. Run: ``python benchmarks/cache.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from skllm_calib import ResponseCache
from skllm_calib.backends import Reply
from skllm_calib.evidence.label_tokens import Distribution, Token
from skllm_calib.evidence.storage.sqlite_rows import SCHEMA
from skllm_calib.evidence.workers import Worker
from skllm_calib.utils.sqlite import SQLiteFile


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


def together(path: Path, replies: dict[str, str]) -> None:
    """Keep replies as a worker does."""
    worker = Worker(ResponseCache(path), str)
    worker.claim(list(replies))
    for key, value in replies.items():
        worker.keep(key, value)
    worker.release()


def n_written() -> int:
    """Return how many bytes this process has written so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def measure(
    keep: Callable[[Path, dict[str, str]], None], replies: dict[str, str]
) -> tuple[int, float, int]:
    """Return the bytes written, the seconds, and the size of the file in the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "replies.sqlite"
        before, start = n_written(), time.perf_counter()
        keep(path, replies)
        SQLiteFile(path, SCHEMA).connect().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        seconds = time.perf_counter() - start
        written = n_written() - before
        found = ResponseCache(path).get_many(list(replies))
        assert found == replies
        return written, seconds, path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-replies", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ways = {"a transaction each": one_transaction_each, "together": together}
    print(
        f"{'replies':>8}  {'way':<18}  {'written / kept':>14}  {'replies/s':>9}  "
        f"{'file / kept':>11}"
    )
    for n in args.n_replies:
        replies = {hashlib.sha256(b"%d" % i).hexdigest(): typical_reply(i) for i in range(n)}
        kept = sum(len(key) + len(value) for key, value in replies.items())
        rounds = [
            {name: measure(keep, replies) for name, keep in ways.items()}
            for _ in range(args.rounds)
        ]
        for name in ways:
            written, seconds, size = (
                statistics.median(figures)
                for figures in zip(*(r[name] for r in rounds), strict=True)
            )
            print(
                f"{n:>8,}  {name:<18}  {written / kept:>14.1f}  {n / seconds:>9,.0f}  "
                f"{size / kept:>11.2f}"
            )


if __name__ == "__main__":
    main()
