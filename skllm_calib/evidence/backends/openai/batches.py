"""OpenAI's Batch API: a file of requests goes in, a file of answers and one of errors come out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import IO, Any

from skllm_calib.evidence.backends.hosted.batches import (
    LOOKED_BACK,
    TOKEN_FIELD,
    BatchService,
    Found,
    Handed,
    Limits,
    Standing,
    joined,
    response_of,
)
from skllm_calib.evidence.backends.hosted.failures import Problem
from skllm_calib.evidence.backends.hosted.replay import Line, LineResult

__all__ = ["OpenAIBatches"]

_VERSION = "/v1"  # whatever the base URL ends in
_OVER = ("completed", "failed", "expired", "cancelled")
_FULL = "token_limit_exceeded"


class OpenAIBatches(BatchService):
    """Batches of chat completions or responses."""

    # The API takes 200 MB; what is handed in is in memory before.
    limits = Limits(50_000, 100_000_000)

    def written(self, line: Line) -> bytes:
        """Write a line of the file."""
        url = _VERSION + line.path
        fields = {"custom_id": line.id, "method": "POST", "url": url, "body": line.body}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    def submit(
        self, token: str, path: str, lines: Sequence[bytes], note_sent: Callable[[], None]
    ) -> str | Problem:
        """Upload a file and make a batch of it."""
        with joined(lines) as file:

            def upload(client: Any) -> Any:
                file.seek(0)
                return client.files.create(file=(f"{token}.jsonl", file), purpose="batch")

            file_id = self.call(upload).id
        note_sent()
        made = self.call(
            lambda client: client.batches.create(
                completion_window="24h",
                endpoint=_VERSION + path,
                input_file_id=file_id,
                metadata={TOKEN_FIELD: token},
            ),
            once=True,
        )
        return made if isinstance(made, Problem) else str(made.id)

    def find(self, batch: Handed, members: Collection[str], others: Collection[str]) -> Found:
        """Look for the batch with this token."""
        since = (batch.sent or 0.0) - LOOKED_BACK

        def search(client: Any) -> str | None:
            for one in client.batches.list(limit=100):
                if (one.metadata or {}).get(TOKEN_FIELD) == batch.token:
                    return str(one.id)
                if one.created_at < since:  # the latest come first
                    break
            return None

        return Found(self.call(search))

    def look(self, batch_id: str) -> Standing:
        """Look where a batch stands."""
        batch = self.call(lambda client: client.batches.retrieve(batch_id))
        files = tuple(filter(None, (batch.output_file_id, batch.error_file_id)))
        errors = (batch.errors.data if batch.errors else None) or ()
        said = "; ".join(
            f"{error.message} (line {error.line})" if error.line else str(error.message)
            for error in errors[:3]
        )
        return Standing(
            batch_id,
            batch.status,
            batch.status in _OVER,
            files,
            (said or "no reason given") if batch.status == "failed" and not files else "",
            any(error.code == _FULL for error in errors),
        )

    def results(self, standing: Standing) -> Iterator[LineResult]:
        """Yield the lines of the output and of the errors."""
        for file_id in standing.files:

            def load(client: Any, file: IO[bytes], file_id: str = file_id) -> None:
                with client.files.with_streaming_response.content(file_id) as response:
                    for chunk in response.iter_bytes():
                        file.write(chunk)

            for line in self.spooled(load):
                result = response_of(line)
                if result.status >= 400 and isinstance(result.body, Mapping):
                    result = result._replace(body=result.body.get("error", result.body))
                yield result
