"""Why an answer ended, in the words of many servers."""

from __future__ import annotations

from typing import Any

__all__ = ["is_broken", "is_cut", "is_filtered"]

_CUT = {
    *("length", "max_tokens", "max_length", "max_output_tokens", "max_completion_tokens"),
    *("model_length", "model_context_window_exceeded", "incomplete", "truncated"),
    "pause_turn",  # Anthropic: to be continued
}
_BROKEN = {
    *("error", "server_error", "network_error", "failed", "failure", "timeout", "time_limit"),
    *("abort", "aborted", "cancelled", "canceled", "interrupted"),
    "insufficient_system_resource",  # DeepSeek
    "repetition",  # vLLM
    *("malformed_function_call", "unexpected_tool_call", "other"),  # Gemini
}
_FILTERED = {
    *("content_filter", "content_filtered", "safety", "sensitive", "recitation", "blocklist"),
    *("prohibited_content", "spii", "guardrail_intervened", "refusal"),
}


def is_cut(finish: Any) -> bool:
    """Tell whether an answer ended because there was no more room for it."""
    return _word(finish) in _CUT


def is_broken(finish: Any) -> bool:
    """Tell whether an answer ended because the server failed: what there is of it says nothing."""
    return _word(finish) in _BROKEN


def is_filtered(finish: Any) -> bool:
    """Tell whether a content filter ended an answer."""
    return _word(finish) in _FILTERED


def _word(finish: Any) -> str:
    return str(finish or "").strip().lower()
