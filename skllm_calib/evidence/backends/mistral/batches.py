"""Mistral's batch jobs: a file of requests goes in, files of answers and of errors come out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
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

__all__ = ["MistralBatches"]

_OVER = ("SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED")
_OF_THE_JOB = ("model", "stream")  # given once, not in every line
_PAGE = 100


class MistralBatches(BatchService):
    """Batch jobs of chat completions."""

    # The API takes 512 MB; what is handed in is in memory before.
    limits = Limits(100_000, 100_000_000)

    def written(self, line: Line) -> bytes:
        """Write a line of the file."""
        body = {name: value for name, value in line.body.items() if name not in _OF_THE_JOB}
        fields = {"custom_id": line.id, "body": body}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()

    def submit(
        self, token: str, path: str, lines: Sequence[bytes], note_sent: Callable[[], None]
    ) -> str | Problem:
        """Upload a file and make a job of it."""
        with joined(lines) as file:

            def upload(client: Any) -> Any:
                file.seek(0)
                content = {"file_name": f"{token}.jsonl", "content": file}
                return client.sdk.files.upload(file=content, purpose="batch")

            file_id = self.call(upload).id
        note_sent()
        made = self.call(
            lambda client: client.sdk.batch.jobs.create(
                endpoint=path,
                input_files=[file_id],
                model=self._model,
                metadata={TOKEN_FIELD: token},
            ),
            once=True,
        )
        return made if isinstance(made, Problem) else str(made.id)

    def find(self, batch: Handed, members: Collection[str], others: Collection[str]) -> Found:
        """Look for the job with this token."""
        since = datetime.fromtimestamp((batch.sent or 0.0) - LOOKED_BACK, UTC)

        def search(client: Any) -> str | None:
            for page in count():
                jobs = client.sdk.batch.jobs.list(
                    page=page, page_size=_PAGE, created_after=since
                ).data
                for job in jobs or ():
                    if (job.metadata or {}).get(TOKEN_FIELD) == batch.token:
                        return str(job.id)
                if len(jobs or ()) < _PAGE:
                    break
            return None

        return Found(self.call(search))

    def look(self, batch_id: str) -> Standing:
        """Look where a job stands."""
        job = self.call(lambda client: client.sdk.batch.jobs.get(job_id=batch_id))
        files = tuple(str(file) for file in (job.output_file, job.error_file) if file)
        status = str(job.status)
        said = "; ".join(error.message for error in job.errors[:3])
        error = (said or "no reason given") if status == "FAILED" and not files else ""
        return Standing(batch_id, status, status in _OVER, files, error)

    def results(self, standing: Standing) -> Iterator[LineResult]:
        """Yield the lines of the output and of the errors."""
        for file_id in standing.files:

            def load(client: Any, file: IO[bytes], file_id: str = file_id) -> None:
                response = client.sdk.files.download(file_id=file_id)
                for chunk in response.iter_bytes():
                    file.write(chunk)

            yield from map(response_of, self.spooled(load))
