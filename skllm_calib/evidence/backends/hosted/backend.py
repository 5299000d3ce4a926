"""HostedBackend: what backends behind an API have in common, for those who put them together."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

from skllm_calib.evidence.backends.base import BaseBackend, Reply, Request
from skllm_calib.evidence.backends.hosted.batches import BatchService
from skllm_calib.evidence.backends.hosted.channels import Channels

__all__ = ["Answerer", "HostedBackend"]


class Answerer(Protocol):
    """Answers requests; raises BackendError, or a StopRunError."""

    def answer(self, request: Request) -> Reply:
        """Answer a request as one of many."""

    def answer_alone(self, request: Request) -> Reply:
        """Answer a request as if it were the only one."""


class HostedBackend(BaseBackend):
    """A backend whose parts can be put together in another way than `run` does."""

    @abstractmethod
    def connect(self, channels: Channels | None = None) -> Any:
        """Return a connection, through the usual channels or through others."""

    @abstractmethod
    def new_facts(self) -> Any:
        """Return what is known of a model before the first request."""

    @abstractmethod
    def answerer(self, connection: Any, facts: Any) -> Answerer:
        """Return what answers requests through a connection, and learns as it goes."""

    @abstractmethod
    def batch_service(self) -> BatchService:
        """Return the provider's batches.

        Raises
        ------
        InvalidInput
            If there are none here.
        """
