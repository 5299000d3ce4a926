"""Many requests at a time, answers as they come, one bad row costing no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from skllm_calib.evidence.backends.base import Reply, Request
from skllm_calib.exceptions import BackendError

__all__ = ["answer_all"]


def answer_all(
    answer: Callable[[Request], Reply], requests: Sequence[Request], n_workers: int
) -> Iterator[tuple[int, Reply | BackendError]]:
    """Yield (index, reply or failure) for each request, `n_workers` at a time.

    When the caller stops early (an interrupt, an error), what has not begun is dropped.
    """
    pool = ThreadPoolExecutor(max_workers=max(1, n_workers))
    try:
        futures = {pool.submit(answer, request): i for i, request in enumerate(requests)}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BackendError as failure:
                yield futures[future], failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
