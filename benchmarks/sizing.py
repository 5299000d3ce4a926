"""How many machines, hours, dollars and bytes a number of rows takes, and what breaks on the way.

A simulation of workers that each keep some requests in flight. Its parameters are what the other
scripts measured (``remote.py``: processor time a row; ``cache.py``: replies a second and bytes a
reply) and what a provider grants. The first table says what binds: the processors of the workers,
the latency, the provider's limit, or the database. The third simulates partitions whose requests
have a tail of slow ones: how much of the time a worker has as much in flight as it may, the wait
for the last ones included. The last one counts the rows that fail, in one run and after another.

Run: ``python benchmarks/sizing.py`` (seconds); every parameter is an option.
"""

from __future__ import annotations

import argparse
import heapq
import math
from typing import NamedTuple

import numpy as np

SIZES = {"10,000": 10**4, "1 million": 10**6, "10 million": 10**7, "1 billion": 10**9}


class Grant(NamedTuple):
    """What a provider, or a server of one's own, lets through."""

    name: str
    requests_per_minute: float
    workers: int


GRANTS = (
    Grant("500 a minute", 500, 1),
    Grant("10,000 a minute", 10_000, 1),
    Grant("no limit", math.inf, 1),
    Grant("no limit", math.inf, 8),
    Grant("no limit", math.inf, 64),
)


def rate(grant: Grant, args: argparse.Namespace) -> tuple[float, str]:
    """Return rows a second, and what keeps them from being more."""
    rates = {
        "processor": grant.workers * 1e3 / args.cpu_ms,
        "latency": grant.workers * args.in_flight / args.latency,
        "limit": grant.requests_per_minute / 60,
        "database": args.puts_per_second,
    }
    binds = min(rates, key=lambda name: rates[name])
    return rates[binds], binds


def efficiency(
    n_rows: int, n_in_flight: int, args: argparse.Namespace, rng: np.random.Generator
) -> float:
    """Simulate a partition; return the share of the time for which its places are in use."""
    slow = rng.random(n_rows) < args.slow_share
    seconds = args.latency * rng.lognormal(0.0, 0.3, n_rows) * np.where(slow, args.slow_factor, 1)
    places = [0.0] * n_in_flight
    for each in seconds:
        heapq.heapreplace(places, places[0] + each)
    return float(seconds.sum() / (n_in_flight * max(places)))


def failures(n_rows: float, args: argparse.Namespace) -> tuple[float, float, float]:
    """Return the rows that fail without retries, with them, and after another run."""
    passing = args.failing_requests ** (args.max_retries + 1)
    for_good = args.failing_rows
    return (
        n_rows * (args.failing_requests + for_good),
        n_rows * (passing + for_good),
        n_rows * (passing**2 + for_good),
    )


def span(seconds: float) -> str:
    """Write a time in the unit in which it is read."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.0f} s"


def size(n_bytes: float) -> str:
    """Write a number of bytes."""
    power = min(4, int(math.log10(n_bytes) // 3))
    return f"{n_bytes / 1e3**power:,.0f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    number = {
        "--cpu-ms": (1.0, "of a worker's processor a row"),
        "--in-flight": (256, "requests of a worker"),
        "--latency": (0.5, "seconds of a request"),
        "--tokens": (300, "of a row, read"),
        "--dollars": (0.10, "for a million tokens"),
        "--puts-per-second": (5_000, "replies that the database takes"),
        "--bytes": (1_300, "of a reply in the cache"),
        "--slow-share": (0.01, "of the requests"),
        "--slow-factor": (20, "times the latency of a slow one"),
        "--failing-requests": (0.01, "share of requests with a failure that passes"),
        "--failing-rows": (1e-4, "share of rows with a failure for good"),
        "--max-retries": (5, "of a request"),
    }
    for name, (default, what) in number.items():
        parser.add_argument(name, type=type(default), default=default, help=what)
    args = parser.parse_args()
    for name, (_, what) in number.items():
        print(f"{vars(args)[name[2:].replace('-', '_')]:>10,}  {name[2:]}: {what}")

    found = [(grant, *rate(grant, args)) for grant in GRANTS]
    print("\n" + " " * 12, *(f"{grant.name:>15}" for grant, _, _ in found))
    print(f"{'workers':<12}", *(f"{grant.workers:>15}" for grant, _, _ in found))
    print(f"{'rows/s':<12}", *(f"{rows:>15,.0f}" for _, rows, _ in found))
    print(f"{'bound by':<12}", *(f"{binds:>15}" for _, _, binds in found))
    for name, n in SIZES.items():
        print(f"{name:<12}", *(f"{span(n / rows):>15}" for _, rows, _ in found))

    print(f"\n{'rows':<12} {'dollars':>12} {'in batches':>12} {'cache':>8}")
    for name, n in SIZES.items():
        money = n * args.tokens * args.dollars / 1e6
        print(f"{name:<12} {money:>12,.2f} {money / 2:>12,.2f} {size(n * args.bytes):>8}")

    rng = np.random.default_rng(0)
    print("\nshare of the time in use, by rows of a partition for each request in flight")
    ratios = (1, 3, 10, 30, 100)
    print(f"{'in flight':<12}", *(f"{r:>6}" for r in ratios))
    for n_in_flight in (8, 64, 256):
        runs = [
            np.mean([efficiency(r * n_in_flight, n_in_flight, args, rng) for _ in range(100)])
            for r in ratios
        ]
        print(f"{n_in_flight:<12}", *(f"{run:>6.2f}" for run in runs))

    print("\nrows that fail: without retries, with them, after another run")
    for name, n in SIZES.items():
        print(f"{name:<12}", *(f"{rows:>14,.0f}" for rows in failures(n, args)))


if __name__ == "__main__":
    main()
