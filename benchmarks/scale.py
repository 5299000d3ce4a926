"""Many rows, workers that are killed: what is billed, how fast requests come, what memory it takes.

A server on the loopback interface answers "message 17" with the probabilities of that number, and
counts how often it was asked about each. Workers in processes of their own classify their part of
the rows and a tenth of the next one's through one cache (SQLite, or a PostgreSQL server of this
script), with one limit of requests a minute and one budget for all. At random moments one of them,
or all, get ``kill -9`` and are started again where they had been. What a server had begun to answer
when its client was killed is lost for the client and billed: "in flight at kills" is the most that
can be billed twice.

Run, in the repository: ``python benchmarks/scale.py --rows 1000000``; ``--cache postgres`` for a
database, ``--engine dask`` for the workers of a cluster (with PostgreSQL), ``--per-minute N`` and
``--budget N`` for a limit of requests and a budget of tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "evidence" / "storage")]

from remote import Wire, completion  # noqa: E402

SHARE = 0.1  # of the next worker's rows
TOKENS = 61  # of each request, as the server counts
EVERY = 1_000  # rows between two notes of where a worker is
ANSWERS = completion(), completion("B", "A")


class Ledger(Wire):
    """Answers with the probabilities of a number, and counts what is billed."""

    billed = bytearray()
    number = re.compile(rb"message (\d+)")
    minute: ClassVar[deque[float]] = deque()
    most_in_a_minute = 0

    def asked(self, head: bytes, body: bytes) -> None:
        if not (numbers := self.number.findall(body)):  # what the model shows, asked once
            self.transport.write(ANSWERS[0])
            return
        i = int(numbers[-1])
        Ledger.billed[i] = min(255, Ledger.billed[i] + 1)
        now = time.monotonic()
        Ledger.minute.append(now)
        while now - Ledger.minute[0] > 60.0:
            Ledger.minute.popleft()
        Ledger.most_in_a_minute = max(Ledger.most_in_a_minute, len(Ledger.minute))
        self.answer_later(ANSWERS[i % 2])

    def seen(self) -> dict[str, int]:
        return {
            "billed": sum(Ledger.billed),
            "asked": len(Ledger.billed) - Ledger.billed.count(0),
            "in flight": Wire.now,
            "most in flight": Wire.most,
            "most in a minute": Ledger.most_in_a_minute,
        }


async def serve(n_rows: int, latency: float) -> None:
    Wire.latency, Ledger.billed = latency, bytearray(n_rows)
    server = await asyncio.get_running_loop().create_server(Ledger, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def classifier(task: dict[str, Any]) -> Any:
    from skllm_calib import Budget, LLMClassifier
    from skllm_calib.backends import OpenAIBackend

    budget = Budget(tokens=task["budget"], name="scale") if task["budget"] else None
    backend = OpenAIBackend(
        "m",
        base_url=task["url"],
        max_concurrency=task["in_flight"],
        requests_per_minute=task["per_minute"],
    )
    return LLMClassifier(backend, classes=["ham", "spam"], cache=task["cache"], budget=budget)


def is_wrong(i: int, p_ham: float) -> bool:
    return abs(p_ham - (2 / 3, 1 / 3)[i % 2]) > 1e-6


def work(task: dict[str, Any]) -> None:
    """Classify a part of the rows, noting where it is; print what it took."""
    from skllm_calib.exceptions import BudgetExceeded

    note = Path(task["note"])
    start = int(note.read_text()) if note.exists() else task["start"]
    llm, wrong, i = classifier(task), 0, start
    texts = (f"message {i % task['n_rows']}" for i in range(start, task["stop"]))
    with suppress(BudgetExceeded):
        for i, row in enumerate(llm.predict_proba_iter(texts), start):
            wrong += is_wrong(i % task["n_rows"], row[list(llm.classes_).index("ham")])
            if i % EVERY == 0:
                note.with_suffix(".new").write_text(str(i))
                note.with_suffix(".new").replace(note)
    peak = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    cpu = time.process_time()
    print(json.dumps({"wrong": int(wrong), "peak_mb": int(peak.split()[1]) // 1024, "cpu": cpu}))


@contextmanager
def started(kind: str, argument: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "scale.py"), kind, argument]
    env = {**os.environ, "OPENAI_API_KEY": "sk-test", "NO_PROXY": "127.0.0.1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def look(address: str) -> dict[str, int]:
    with urlopen(address) as answer:
        found: dict[str, int] = json.load(answer)
    return found


def by_processes(tasks: list[dict[str, Any]], address: str, args: Any) -> dict[str, Any]:
    """Run workers, kill some now and then, and start them again."""
    rng, lost, kills, results = random.Random(args.seed), 0, 0, []
    with ExitStack() as stack:
        running = {k: stack.enter_context(started("--work", json.dumps(t))) for k, t in enumerate(tasks)}  # fmt: skip  # noqa: E501
        next_kill = time.monotonic() + rng.expovariate(1 / args.kill_every)
        while running:
            time.sleep(0.2)
            for k, process in list(running.items()):
                if process.poll() is None:
                    continue
                said = process.stdout.read() if process.stdout else ""
                del running[k]
                if process.returncode == 0:
                    results.append(json.loads(said.splitlines()[-1]))
                else:
                    results.append({"ended": process.returncode})
            if running and time.monotonic() > next_kill:
                victims = list(running) if rng.random() < 1 / 3 else [rng.choice(list(running))]
                lost += look(address)["in flight"]
                for k in victims:
                    running[k].send_signal(signal.SIGKILL)
                    running[k].wait()
                    kills += 1
                for k in victims:
                    task = json.dumps(tasks[k])
                    running[k] = stack.enter_context(started("--work", task))
                next_kill = time.monotonic() + rng.expovariate(1 / args.kill_every)
    return {
        "kills": kills,
        "in flight at kills": lost,
        "wrong": sum(r.get("wrong", 0) for r in results),
        "ended otherwise": [r["ended"] for r in results if "ended" in r],
        "peak MB a process": max((r["peak_mb"] for r in results if "peak_mb" in r), default=0),
    }


def by_dask(tasks: list[dict[str, Any]], address: str, args: Any) -> dict[str, Any]:
    """Let a cluster of Dask do all rows, and kill workers of it now and then."""
    import dask
    import dask.dataframe as dd
    import pandas as pd
    from distributed import Client, LocalCluster, wait

    from skllm_calib.distributed import predict_dask

    rng, lost, kills = random.Random(args.seed), 0, 0
    rows = pd.DataFrame({"text": [f"message {i}" for i in range(args.rows)]})
    # Its default gives a task up when the fourth worker has died with it.
    dask.config.set({"distributed.scheduler.allowed-failures": 100})
    options = {"n_workers": args.workers, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        client.run(os.environ.update, {"OPENAI_API_KEY": "sk-test", "NO_PROXY": "127.0.0.1"})
        table = dd.from_pandas(rows, npartitions=max(8, args.rows // 5_000))
        answered = predict_dask(table, classifier(tasks[0])).persist()
        peak = 0
        while True:
            try:
                wait(answered, timeout=rng.expovariate(1 / args.kill_every))
                break
            except TimeoutError:
                client.run(os.environ.update, {"OPENAI_API_KEY": "sk-test"})
                peak = max([peak, *client.run(_peak_mb).values()])
                if workers := list(client.run(os.getpid).values()):  # none: all are starting
                    lost += look(address)["in flight"]
                    os.kill(rng.choice(workers), signal.SIGKILL)
                    kills += 1
        done = answered.compute()
    p_ham = done["proba_ham"].to_numpy(dtype=float)
    wrong = sum(is_wrong(i, p) for i, p in enumerate(p_ham))
    return {"kills": kills, "in flight at kills": lost, "wrong": wrong, "peak MB a process": peak}


def _peak_mb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(x for x in lines if "VmHWM" in x).split()[1]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=64, help="of each worker")
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--cache", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--engine", choices=("processes", "dask"), default="processes")
    parser.add_argument("--kill-every", type=float, default=30.0, help="seconds, on average")
    parser.add_argument("--per-minute", type=int, default=None)
    parser.add_argument("--budget", type=int, default=None, help="tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(**json.loads(args.serve)))
        return
    if args.work:
        work(json.loads(args.work))
        return
    os.environ |= {"OPENAI_API_KEY": "sk-test", "NO_PROXY": "127.0.0.1"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache, path = str(folder / "replies.sqlite"), folder / "replies.sqlite"
        if args.engine == "dask":
            args.cache = "postgres"
        if args.cache == "postgres":
            from postgres_server import PostgresServer

            database = PostgresServer()
            stack.callback(database.close)
            cache = database.new_address()
        server = json.dumps({"n_rows": args.rows, "latency": args.latency})
        process = stack.enter_context(started("--serve", server))
        assert process.stdout is not None
        address = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        part = args.rows // args.workers
        tasks = [
            {
                "url": f"{address}/v1",
                "cache": cache,
                "n_rows": args.rows,
                "start": k * part,
                "stop": int((k + 1 + SHARE) * part) if k < args.workers - 1 else args.rows,
                "note": str(folder / f"worker{k}"),
                "in_flight": args.in_flight,
                "per_minute": args.per_minute,
                "budget": args.budget,
            }
            for k in range(args.workers)
        ]
        began = time.monotonic()
        run = by_dask if args.engine == "dask" else by_processes
        found = run(tasks, address, args)
        seconds = time.monotonic() - began
        seen = look(address)
        found |= {
            "rows": args.rows,
            "asked": seen["asked"],
            "billed": seen["billed"],
            "billed again": seen["billed"] - seen["asked"],
            "most in flight": seen["most in flight"],
            "most in a minute": seen["most in a minute"],
            "billed tokens": TOKENS * seen["billed"],
            "seconds": round(seconds),
            "rows a second": round(seen["asked"] / seconds),
        }
        if path.exists():
            found["bytes kept a row"] = round(path.stat().st_size / max(1, seen["asked"]))
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores; {args.workers} workers, ",
        end="",
    )
    print(f"{args.in_flight} in flight each, {args.cache} cache, {args.engine}")
    for name, value in found.items():
        print(f"{name:<20}  {value if isinstance(value, list) else f'{value:,}'}")


if __name__ == "__main__":
    main()
