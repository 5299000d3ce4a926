"""A server on the loopback address that speaks the batch protocols of three providers.

What a line answers is a function of its body, as with the server for single requests. Nothing of a
batch is answered before ``finish`` is called.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loopback import Answer


@dataclass
class Batch:
    """A batch of one of the providers."""

    id: str
    path: str
    lines: list[dict[str, Any]]
    metadata: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    created: float = field(default_factory=time.time)
    status: str = "open"  # "done", "failed" or "expired" later
    results: list[tuple[str, Answer | None]] = field(default_factory=list)
    error: dict[str, Any] | None = None

    def count(self, good: bool) -> int:
        return sum(a is not None and (a.status < 400) == good for _, a in self.results)


class BatchServer:
    """A context manager: ``with BatchServer(respond) as server: ... server.finish()``.

    Attributes
    ----------
    billed : Counter
        How often each question was answered.
    calls : list of str
        Method and path of each request.
    """

    def __init__(self, respond: Callable[[dict[str, Any]], Answer]) -> None:
        self.respond = respond
        self.batches: dict[str, Batch] = {}
        self.files: dict[str, bytes] = {}
        self.billed: Counter[str] = Counter()
        self.live: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.refusal: dict[str, Any] | None = None  # of each new batch, as a whole
        self.has_batches = True
        self.n_looks: int | None = None  # after which batches are finished
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return "http://{}:{}".format(*self._server.server_address[:2])

    def finish(self, expires: Callable[[dict[str, Any]], bool] = lambda line: False) -> None:
        """Answer the open batches, but for the lines that expire."""
        for batch in self.batches.values():
            if batch.status != "open":
                continue
            for line in reversed(batch.lines):  # in no order that helps
                body = line.get("body") or line["params"]
                answer = None if expires(line) else self.answer({"model": batch.model} | body)
                batch.results.append((line["custom_id"], answer))
            is_whole = all(answer is not None for _, answer in batch.results)
            batch.status = "done" if is_whole else "expired"

    def answer(self, body: dict[str, Any]) -> Answer:
        answer = self.respond(body)
        if answer.status < 400:
            shown = {name: body.get(name) for name in ("messages", "input", "logprobs")}
            self.billed[json.dumps(shown)] += 1
        return answer

    def look(self, method: str) -> None:
        if self.n_looks is not None and method == "GET":
            self.n_looks -= 1
            if self.n_looks == 0:
                self.finish()

    def make(self, path: str, lines: list[dict[str, Any]], **fields: Any) -> Batch:
        with self.lock:
            batch = Batch(f"batch_{len(self.batches)}", path, lines, **fields)
            if self.refusal is not None:
                batch.status, batch.error = "failed", self.refusal
            self.batches[batch.id] = batch
        return batch

    def page(self, after: list[str] | None) -> tuple[list[Batch], bool]:
        """Return a page of one batch, the latest first, and whether there are more."""
        names = list(reversed(self.batches))
        left = names[names.index(after[0]) + 1 :] if after else names
        return [self.batches[name] for name in left[:1]], len(left) > 1

    def keep(self, content: bytes) -> str:
        with self.lock:
            name = f"file_{len(self.files)}"
            self.files[name] = content
        return name

    def sent(self, method: str, path: str, query: dict[str, Any], raw: bytes, kind: str) -> Any:
        """Return the answer to a request of any of the protocols: JSON, bytes or an Answer."""
        if kind.startswith("multipart/"):
            boundary = re.search(r'boundary="?([^";]+)', kind)[1].encode()
            parts = [p.split(b"\r\n\r\n", 1) for p in raw.split(b"--" + boundary)[1:-1]]
            content = next(c for head, c in parts if b"filename=" in head).removesuffix(b"\r\n")
            name = self.keep(content)
            return _file(name, len(content)) if self.has_batches else Answer(404, {})
        body = json.loads(raw) if raw else {}
        for pattern, handle in (
            (r"/v1/files/(\w+)/content", lambda m: self.files[m[1]]),
            (r"/v1/batches", lambda m: self.openai_batches(method, query, body)),
            (r"/v1/batches/(\w+)", lambda m: self.openai(self.batches[m[1]])),
            (r"/v1/batch/jobs", lambda m: self.mistral_jobs(method, body)),
            (r"/v1/batch/jobs/(\w+)", lambda m: self.mistral(self.batches[m[1]])),
            (r"/v1/messages/batches", lambda m: self.anthropic_batches(method, query, body)),
            (r"/v1/messages/batches/(\w+)", lambda m: self.anthropic(self.batches[m[1]])),
            (r"/v1/messages/batches/(\w+)/results", lambda m: self.anthropic_results(m[1])),
        ):
            if found := re.fullmatch(pattern, path):
                try:
                    return handle(found)
                except KeyError:
                    return Answer(404, {"error": {"message": "No such object"}})
        self.live.append(body)
        return self.answer(body)

    # -- OpenAI ----------------------------------------------------------------------------------

    def openai_batches(self, method: str, query: dict[str, Any], body: dict[str, Any]) -> Any:
        if method == "GET":
            data, has_more = self.page(query.get("after"))
            return {"object": "list", "data": list(map(self.openai, data)), "has_more": has_more}
        assert body["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        assert {line["url"] for line in lines} == {body["endpoint"]}
        assert {line["method"] for line in lines} == {"POST"}
        return self.openai(self.make(body["endpoint"], lines, metadata=body["metadata"]))

    def openai(self, batch: Batch) -> dict[str, Any]:
        statuses = {"open": "in_progress", "done": "completed"}
        good, bad = self.result_files(batch, openai=True)
        errors = {"object": "list", "data": [batch.error]} if batch.error else None
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.path,
            "input_file_id": "file",
            "completion_window": "24h",
            "created_at": int(batch.created),
            "status": statuses.get(batch.status, batch.status),
            "metadata": batch.metadata,
            "output_file_id": good,
            "error_file_id": bad,
            "errors": errors,
        }

    def result_files(self, batch: Batch, *, openai: bool) -> tuple[str | None, str | None]:
        files: list[list[dict[str, Any]]] = [[], []]
        for name, answer in batch.results:
            line: dict[str, Any] = {"id": f"r-{name}", "custom_id": name, "error": None}
            if answer is None:
                expired = {"code": "batch_expired", "message": "This request expired."}
                line |= {"response": None, "error": expired}
                if not openai:
                    continue  # a job that ran out of time says nothing of such lines
            else:
                line["response"] = {"status_code": answer.status, "body": answer.body}
            files[answer is None or answer.status >= 400].append(line)
        written = ["\n".join(map(json.dumps, lines)).encode() for lines in files]
        good, bad = (self.keep(content) if content else None for content in written)
        return good, bad

    # -- Mistral ---------------------------------------------------------------------------------

    def mistral_jobs(self, method: str, body: dict[str, Any]) -> Any:
        if method == "GET":
            data = [self.mistral(batch) for batch in reversed(self.batches.values())]
            return {"object": "list", "data": data, "total": len(data)}
        lines = [json.loads(x) for f in body["input_files"] for x in self.files[f].splitlines()]
        assert not any("model" in line["body"] for line in lines)
        fields = {"metadata": body["metadata"], "model": body["model"]}
        return self.mistral(self.make(body["endpoint"], lines, **fields))

    def mistral(self, batch: Batch) -> dict[str, Any]:
        statuses = {"open": "RUNNING", "done": "SUCCESS", "failed": "FAILED"}
        good, bad = self.result_files(batch, openai=False)
        return {
            "id": batch.id,
            "object": "batch",
            "input_files": ["file"],
            "endpoint": batch.path,
            "model": batch.model,
            "metadata": batch.metadata,
            "errors": [{"message": batch.error["message"], "count": 1}] if batch.error else [],
            "status": statuses.get(batch.status, "TIMEOUT_EXCEEDED"),
            "created_at": int(batch.created),
            "total_requests": len(batch.lines),
            "completed_requests": len(batch.results),
            "succeeded_requests": batch.count(good=True),
            "failed_requests": batch.count(good=False),
            "output_file": good,
            "error_file": bad,
        }

    # -- Anthropic -------------------------------------------------------------------------------

    def anthropic_batches(self, method: str, query: dict[str, Any], body: dict[str, Any]) -> Any:
        if method == "GET":
            data, has_more = self.page(query.get("after_id"))
            last = data[-1].id if data else None
            return {"data": list(map(self.anthropic, data)), "has_more": has_more, "last_id": last}
        names = [line["custom_id"] for line in body["requests"]]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
        return self.anthropic(self.make("/v1/messages", body["requests"]))

    def anthropic(self, batch: Batch) -> dict[str, Any]:
        is_over = batch.status != "open"
        created = datetime.fromtimestamp(batch.created, UTC).isoformat()
        n_expired = sum(answer is None for _, answer in batch.results)
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if is_over else "in_progress",
            "request_counts": {
                "processing": 0 if is_over else len(batch.lines),
                "succeeded": batch.count(good=True),
                "errored": batch.count(good=False),
                "canceled": 0,
                "expired": n_expired,
            },
            "created_at": created,
            "expires_at": created,
            "ended_at": created if is_over else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.address}/v1/messages/batches/{batch.id}/results",
        }

    def anthropic_results(self, name: str) -> bytes:
        lines = []
        for custom_id, answer in self.batches[name].results:
            if answer is None:
                result: dict[str, Any] = {"type": "expired"}
            elif answer.status >= 400:
                result = {"type": "errored", "error": answer.body}
            else:
                result = {"type": "succeeded", "message": answer.body}
            lines.append(json.dumps({"custom_id": custom_id, "result": result}))
        return "\n".join(lines).encode()

    # -- the wire --------------------------------------------------------------------------------

    def __enter__(self) -> BatchServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.handle_any("GET")

            def do_POST(self) -> None:
                self.handle_any("POST")

            def handle_any(self, method: str) -> None:
                where = urlsplit(self.path)
                outer.calls.append(f"{method} {where.path}")
                outer.look(method)
                raw = b"".join(self.body())
                kind = self.headers.get("Content-Type", "")
                found = outer.sent(method, where.path, parse_qs(where.query), raw, kind)
                answer = found if isinstance(found, Answer) else Answer(200, found)
                is_file = isinstance(answer.body, bytes)
                content = answer.body if is_file else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                kind = "application/octet-stream" if is_file else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def body(self) -> Iterator[bytes]:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
                    return
                while size := int(self.rfile.readline(), 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None  # a client that was killed
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def text_of(body: dict[str, Any]) -> str:
    """Return what a request is about: its last turn."""
    turn = (body.get("messages") or body["input"])[-1]["content"]
    return turn if isinstance(turn, str) else json.dumps(turn)


def _file(name: str, size: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "file",
        "bytes": size,
        "size_bytes": size,
        "created_at": 1,
        "filename": "x.jsonl",
        "purpose": "batch",
        "status": "processed",
        "sample_type": "batch_request",
        "source": "upload",
    }
