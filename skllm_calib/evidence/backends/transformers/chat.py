"""The chat format of a model that transformers has loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skllm_calib.evidence.backends.base import Message
from skllm_calib.evidence.backends.framing import ChatFormat, Part, is_mark
from skllm_calib.exceptions import BackendError

__all__ = ["PLAIN_TEXT", "TransformersChat"]

PLAIN_TEXT = "the model has no chat template: the turns were joined as plain text"


class TransformersChat(ChatFormat):
    """Writes conversations with the chat template of a tokenizer, or as plain text without one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.items()
        marks = {i: token.content for i, token in added if token.special or is_mark(token.content)}
        marks |= {i: tokenizer.convert_ids_to_tokens(i) for i in tokenizer.all_special_ids}
        # What stands for everything unknown marks nothing.
        self.specials = {i: name for i, name in marks.items() if i != tokenizer.unk_token_id}

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a conversation."""
        # A template writes the first token itself.
        is_plain = self._tokenizer.chat_template is None
        return list(self._tokenizer.encode(text, add_special_tokens=is_plain))

    def tokenize_parts(self, parts: Sequence[Part]) -> list[int]:
        """Return the tokens of parts whose texts are nothing but text."""
        ids: list[int] = []
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self._tokenizer.encode(
                    part, add_special_tokens=False, split_special_tokens=True
                )
        return ids

    def render(self, messages: Sequence[Message]) -> str:
        """Write a conversation."""
        from jinja2 import TemplateError  # noqa: PLC0415 (optional)

        if self._tokenizer.chat_template is None:
            return "\n\n".join(m.content for m in messages) + "\n"
        turns = [message._asdict() for message in messages]
        try:
            return self._write(turns)
        except TemplateError as e:
            if len(turns) < 2 or turns[0]["role"] != "system":
                raise BackendError(f"the chat template refuses this conversation: {e}") from e
        # Some chat formats know no system turn: its text goes before that of the first turn.
        system, first, *rest = turns
        joined = {**first, "content": f"{system['content']}\n\n{first['content']}"}
        try:
            return self._write([joined, *rest])
        except TemplateError as e:
            raise BackendError(f"the chat template refuses this conversation: {e}") from e

    def _write(self, turns: list[dict[str, str]]) -> str:
        # Models that can think first are asked not to: the answer is to come at once.
        text: str = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return text
