"""Anthropic's Message Batches: a list of requests goes in, a stream of results comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, Any

from skllm_calib.evidence.backends.hosted.answer import count, first
from skllm_calib.evidence.backends.hosted.batches import (
    LOOKED_BACK,
    BatchService,
    Found,
    Handed,
    Limits,
    Standing,
)
from skllm_calib.evidence.backends.hosted.carried import carried_error
from skllm_calib.evidence.backends.hosted.failures import Problem
from skllm_calib.evidence.backends.hosted.replay import Line, LineResult

__all__ = ["AnthropicBatches"]

_PATH = "/v1/messages/batches"
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")


class AnthropicBatches(BatchService):
    """Message batches."""

    # The API takes 256 MB, in one body that has to be in memory.
    limits = Limits(100_000, 64_000_000)

    def written(self, line: Line) -> bytes:
        """Write a request of the list."""
        fields = {"custom_id": line.id, "params": line.body}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    def submit(
        self, token: str, path: str, lines: Sequence[bytes], note_sent: Callable[[], None]
    ) -> str | Problem:
        """Send the list."""
        body = {"requests": [json.loads(line) for line in lines]}
        note_sent()
        made = self.call(lambda client: client.post(_PATH, body=body, cast_to=object), once=True)
        return made if isinstance(made, Problem) else str(first(made, "id"))

    def find(self, batch: Handed, members: Collection[str], others: Collection[str]) -> Found:
        """Look for a batch of as many requests; its results tell whether it is the one.

        A batch has no name of ours here, and says what it holds only when it is over.
        """
        since = (batch.sent or 0.0) - LOOKED_BACK

        def search(client: Any) -> list[tuple[str, bool]]:
            found = []
            for one in _listed(client):
                if datetime.fromisoformat(one["created_at"]).timestamp() < since:
                    break  # the latest come first
                n_lines = sum(count(one["request_counts"], name) for name in _COUNTS)
                if n_lines == batch.n_lines and one["id"] not in others:
                    found.append((str(one["id"]), one["processing_status"] == "ended"))
            return found

        candidates = self.call(search)
        for batch_id, is_over in candidates:
            if is_over and any(result.id in members for result in self._read(batch_id)):
                return Found(batch_id)
        return Found(is_open=not all(is_over for _, is_over in candidates))

    def look(self, batch_id: str) -> Standing:
        """Look where a batch stands."""
        path = f"{_PATH}/{batch_id}"
        batch = self.call(lambda client: client.get(path, cast_to=object))
        status = str(first(batch, "processing_status"))
        return Standing(batch_id, status, status == "ended")

    def results(self, standing: Standing) -> Iterator[LineResult]:
        """Yield the results."""
        return self._read(standing.id)

    def _read(self, batch_id: str) -> Iterator[LineResult]:
        def load(client: Any, file: IO[bytes]) -> None:
            file.write(client.get(f"{_PATH}/{batch_id}/results", cast_to=str).encode())

        return map(_result, self.spooled(load))


def _listed(client: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all batches; not by the method of the SDK, whose types take seconds to load."""
    after: dict[str, str] = {}
    while True:
        options = {"params": {"limit": 100, **after}}
        page = client.get(_PATH, cast_to=object, options=options)
        yield from page["data"]
        if not page.get("has_more"):
            return
        after = {"after_id": page["last_id"]}


def _result(line: Mapping[str, Any]) -> LineResult:
    name, result = str(line.get("custom_id")), line.get("result")
    kind = first(result, "type")
    if kind == "succeeded":
        return LineResult(name, 200, first(result, "message"))
    if kind == "errored":
        error = first(first(result, "error"), "error") or first(result, "error")
        carried = carried_error({"error": error or "no reason given"})
        status = carried.status if carried is not None and carried.status >= 400 else 400
        return LineResult(name, status, {"type": "error", "error": error})
    ended = {"type": "timeout_error", "message": f"the request has {kind}"}
    return LineResult(name, 408, {"type": "error", "error": ended})
