"""What a row costs a client of a server: processor time, time on the clock, requests in flight.

A server on the loopback interface, in a process of its own, answers each request after 50 ms with a
chat completion that lists twenty alternatives. Each client runs in a process of its own, too, and
classifies the same texts: this package (its own transport, that of the SDK, with and without a
cache), the SDK in threads and with asyncio, what else is installed, and http.client and aiohttp
alone, which read no reply but its JSON, as the limit. "In flight" is counted by the server; the
limit on the clock is rows / in flight x 50 ms; ``--latency 0.5`` shows what a client can keep in
flight where the processor is not what it waits for.

Run: ``python benchmarks/remote.py``, with ``--python langchain=/path/to/python`` for packages that
are installed elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from remote_clients import CLIENTS

LATENCY = 0.05
HERE = Path(__file__).resolve().parent


def completion(best: str = "A", other: str = "B") -> bytes:
    listed = {best: 0.6, other: 0.3, **{f" word{i}": 0.1 / 18 for i in range(18)}}

    def entry(token: str) -> dict[str, Any]:
        logprob = math.log(listed[token])
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    position = {**entry(best), "top_logprobs": [entry(token) for token in listed]}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": best, "refusal": None},
        "logprobs": {"content": [position], "refusal": None},
        "finish_reason": "stop",
    }
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    usage = {"prompt_tokens": 60, "completion_tokens": 1, "total_tokens": 61}
    body = json.dumps({**head, "choices": [choice], "usage": usage}).encode()
    return http(body)


def response() -> bytes:
    """A response as openaivec wants it, which asks for labels alone, as JSON."""
    text = json.dumps({"assistant_messages": [{"id": 0, "body": "A"}]})
    content = {"type": "output_text", "text": text, "annotations": []}
    turn = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "tools": []}
    rest = {"status": "completed", "tool_choice": "auto", "parallel_tool_calls": True}
    body = {**head, **rest, "output": [{**turn, "content": [content]}]}
    return http(json.dumps(body).encode())


def http(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


class Wire(asyncio.Protocol):
    """Answers requests a little later, and ``GET`` with what was seen since the one before."""

    answers = (completion(), response())
    latency = LATENCY
    now = most = n = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self.transport.write(http(json.dumps(self.seen()).encode()))
            self.received = b""
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(rest) >= length:
            self.received = rest[length:]
            self.asked(head, rest[:length])

    def asked(self, head: bytes, body: bytes) -> None:
        Wire.n += 1
        self.answer_later(Wire.answers[b"/responses " in head[:99]])

    def seen(self) -> dict[str, int]:
        found = {"most": Wire.most, "n": Wire.n}
        Wire.most = Wire.n = 0
        return found

    def answer_later(self, answer: bytes) -> None:
        Wire.now += 1
        Wire.most = max(Wire.most, Wire.now)
        asyncio.get_running_loop().call_later(Wire.latency, self.reply, answer)

    def reply(self, answer: bytes) -> None:
        Wire.now -= 1
        if not self.transport.is_closing():
            self.transport.write(answer)


async def serve(latency: float) -> None:
    Wire.latency = latency
    server = await asyncio.get_running_loop().create_server(Wire, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def running(latency: float = LATENCY) -> Iterator[str]:
    command = [sys.executable, str(HERE / "remote.py"), "--serve", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.terminate()


def measure(name: str, python: str, address: str, n_rows: int, n_at_once: int) -> dict[str, Any]:
    """Return seconds of the processor and on the clock, and what the server saw."""
    task = json.dumps({"url": f"{address}/v1", "n_rows": n_rows, "n_at_once": n_at_once})
    env = {**os.environ, "OPENAI_API_KEY": "sk-test", "NO_PROXY": "127.0.0.1"}
    command = [python, str(HERE / "remote_clients.py"), name, task]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    with urlopen(address) as answer:
        seen = json.load(answer)
    if done.returncode:
        return {"error": (done.stderr.strip() or "?").splitlines()[-1][:90]}
    return {**json.loads(done.stdout.splitlines()[-1]), **seen}


def cells(taken: list[dict[str, Any]], limit: float) -> str:
    if error := next((t["error"] for t in taken if "error" in t), None):
        return f"| {error} | | | |"
    cpu = statistics.median(t["cpu"] / t["n_rows"] for t in taken)
    wall = statistics.median(t["wall"] for t in taken)
    written = statistics.median(t["written"] / t["n_rows"] for t in taken)
    most = max(t["most"] for t in taken)
    return f"| {1e3 * cpu:.2f} | {wall / limit:.2f} | {most} | {written:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--serve", action="store_true", help="be the server")
    parser.add_argument("--latency", type=float, default=LATENCY, metavar="SECONDS")
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--n-repeats", type=int, default=3)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--only", nargs="+", default=list(CLIENTS))
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=PATH", help="for names that begin so"
    )
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.latency))
        return
    own = dict(each.split("=", 1) for each in args.python)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {args.rows:,} rows")
    began = time.monotonic()
    for n_at_once in args.in_flight:
        heads = ["client", "CPU a row, ms", "time / limit", "in flight", "bytes written a row"]
        print(f"\n{n_at_once} in flight\n\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in args.only}
        with running(args.latency) as address:
            for _ in range(args.n_repeats):  # in turns, so that other work hits all alike
                for name, results in taken.items():
                    if not results or "error" not in results[-1]:
                        python = next((own[n] for n in own if name.startswith(n)), sys.executable)
                        n_rows = args.rows // CLIENTS[name].share
                        results.append(measure(name, python, address, n_rows, n_at_once))
        for name, results in taken.items():
            limit = args.latency * args.rows / CLIENTS[name].share / n_at_once
            print(f"| {name} {cells(results, limit)}")
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
