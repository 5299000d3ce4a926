"""Prompt: from a row to a conversation, and the answers the model is to choose from.

A prompt is an ordinary scikit-learn parameter object, so that a grid search can vary it whole or by
its parts. Bound to a set of labels it renders rows; the text of a row is data of unknown origin and
is kept inside a fence that it cannot close.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sklearn.base import BaseEstimator

from skllm_calib.evidence.backends.base import AnswerForm, Message
from skllm_calib.evidence.questions import (
    BoundPrompt,
    check_fields,
    field_names,
    option_keys,
)
from skllm_calib.exceptions import PromptError
from skllm_calib.utils.tables.cells import unpaired

__all__ = ["Prompt", "resolve_prompt"]

_ITEM = "Text: {text}\nAnswer:"
_INSTRUCTION: dict[AnswerForm, str] = {
    "words": "Classify the text. {hint}",
    "keys": "Classify the text as one of these options:\n{options}\n{hint}",
}
_ROLES = ("system", "user", "assistant")


class Prompt(BaseEstimator):  # type: ignore[misc]
    r"""The question that the model is asked about a row.

    Parameters
    ----------
    template : str or list of dict or None, default=None
        The question about one row, as a text or as a chat (a list of
        ``{"role": ..., "content": ...}`` that ends with the user's turn). Fields in braces are
        filled in: ``{text}``, or the names of the columns of a table; ``{options}``, the labels
        to choose from (with their keys, where it asks for keys); ``{hint}``, a sentence that says
        how to answer. Write a literal brace twice. None uses a short built-in wording.
    instruction : str or None, default=None
        What to do, said once before the first row, for example "Classify the sentiment of the
        message. {hint}"; it may use ``{options}`` and ``{hint}``. A local model reads it only
        once for all rows. None uses the built-in wording, or nothing when a template is given.
    answer : {"auto", "keys", "words"}, default="auto"
        The form of the answer: an option key (A, B, ...; two or three digits for more than 26
        classes) or the words of the label. "auto" uses what works best with the backend: words
        for small local models, keys for hosted ones, but only where the template shows them with
        ``{options}`` (or lists them itself, as in "A) ham"); else words.
    fence : bool or "auto", default="auto"
        Whether the row's texts are put between marks with a number that is not in the text, so
        that a text cannot end its own part of the prompt and pose as instructions. "auto" fences
        in the built-in wordings and leaves your own template unchanged. It mitigates prompt
        injection but does not prevent it; very small models discriminate a little less with it
        (SmolLM2 on the bundled messages: AUC .84 with, .88 without, 120 rows).

    Examples
    --------
    >>> from skllm_calib import Prompt
    >>> prompt = Prompt("Is this spam? {hint}\n\n{text}", answer="words")
    >>> bound = prompt.bind(["no", "yes"])
    >>> print(bound.render({"text": "You won!"})[0].content)
    Is this spam? Answer with one word: no or yes.
    <BLANKLINE>
    You won!
    """

    def __init__(
        self,
        template: str | list[dict[str, str]] | None = None,
        *,
        instruction: str | None = None,
        answer: Literal["auto", "keys", "words"] = "auto",
        fence: bool | Literal["auto"] = "auto",
    ) -> None:
        self.template = template
        self.instruction = instruction
        self.answer = answer
        self.fence = fence

    def bind(
        self,
        label_texts: Sequence[str],
        descriptions: Sequence[str | None] | None = None,
        *,
        answer_form: AnswerForm = "keys",
        columns: Sequence[str] = (),
    ) -> BoundPrompt:
        """Fix the labels, and check that every field can be filled.

        Parameters
        ----------
        label_texts : sequence of str
            The wording of each class, in the order of ``classes_``.
        descriptions : sequence of str or None, default=None
            What each class means, where that is said.
        answer_form : {"keys", "words"}, default="keys"
            The form for ``answer="auto"``.
        columns : sequence of str, default=()
            Names of the columns, if the rows are those of a table.

        Returns
        -------
        BoundPrompt

        Raises
        ------
        PromptError
            If a field is unknown, the template has no field of the row, or the answer is to be a
            key and the template shows none.
        """
        if self.answer not in ("auto", "keys", "words"):
            raise PromptError(f"answer={self.answer!r}: must be 'auto', 'keys' or 'words'")
        if self.fence not in (True, False, "auto"):
            raise PromptError(f"fence={self.fence!r}: must be True, False or 'auto'")
        texts = tuple(text.strip() for text in label_texts)
        form = self._form(answer_form, texts)
        notes = tuple(descriptions) if descriptions is not None else (None,) * len(texts)
        head, item = self._parts(form)
        for part in (*(message.content for message in head), item, *filter(None, notes)):
            if unpaired(part):
                raise PromptError(
                    f"the prompt contains an unpaired surrogate, which is no character: {part!r}"
                )
        bound = BoundPrompt(
            head=tuple(head),
            item=item,
            texts=texts,
            descriptions=notes,
            form=form,
            fenced=self.template is None if self.fence == "auto" else bool(self.fence),
            # Small local models, which are asked for words, lose their way over the sentence.
            explained=form == "keys",
        )
        constants = bound.constants
        row_fields = {"text", *columns}
        for message in head:
            check_fields(message.content, set(), constants, message.role)
        check_fields(item, row_fields, constants, "row")
        if not any(name in row_fields for name in field_names(item)):
            wanted = "{text}" + "".join(f" or {{{c}}}" for c in columns)
            raise PromptError(
                f"the template {item!r} has no field of the row: put {wanted} where the text of "
                "the row belongs"
            )
        return bound

    def _form(self, by_backend: AnswerForm, texts: Sequence[str]) -> AnswerForm:
        """Return the form of the answer: keys only where the model is shown them."""
        form: AnswerForm = by_backend if self.answer == "auto" else self.answer
        if form == "words" or self._shows_keys(texts):
            return form
        if self.answer == "auto":
            return "words"
        raise PromptError(
            "answer='keys' with a template that does not show the keys: put {options} where the "
            "labels belong, or use answer='words'"
        )

    def _shows_keys(self, texts: Sequence[str]) -> bool:
        """Tell whether the prompt lists the keys with their labels, by the field or by itself."""
        head, item = self._parts("keys")
        whole = "\n".join([*(message.content for message in head), item])
        if "options" in field_names(whole):
            return True
        pairs = zip(option_keys(len(texts)), texts, strict=True)
        return all(
            re.search(rf"(?<!\w){key}\W{{1,3}}{re.escape(text)}(?!\w)", whole, re.I)
            for key, text in pairs
        )

    def _parts(self, form: AnswerForm) -> tuple[list[Message], str]:
        """Return what comes before the first row, and the template of a row."""
        head: list[Message]
        instruction = self.instruction
        if isinstance(self.template, str):
            head, item = [], self.template
        elif self.template is None:
            head, item = [], _ITEM
            instruction = _INSTRUCTION[form] if instruction is None else instruction
        else:
            head, item = _read_chat(self.template)
        if instruction:
            head.append(Message("instruction", instruction))
        return head, item


def resolve_prompt(prompt: Prompt | str | list[dict[str, str]] | None) -> Prompt:
    """Turn the `prompt` parameter of an estimator into a :class:`Prompt`."""
    if isinstance(prompt, Prompt):
        return prompt
    if prompt is None or isinstance(prompt, str | list | tuple):
        return Prompt(list(prompt) if isinstance(prompt, tuple) else prompt)
    raise PromptError(
        f"prompt={prompt!r}: must be a template such as 'Is this spam? {{hint}} {{text}}', a list "
        "of chat messages, a Prompt, or None"
    )


def _read_chat(template: Any) -> tuple[list[Message], str]:
    for i, turn in enumerate(template):
        if not isinstance(turn, Mapping) or set(turn) != {"role", "content"}:
            raise PromptError(
                f"message {i} of the chat template is {turn!r}: each must be a dict with 'role' "
                "and 'content'"
            )
        if turn["role"] not in _ROLES:
            raise PromptError(f"message {i} has role {turn['role']!r}: must be one of {_ROLES}")
    if not template or template[-1]["role"] != "user":
        raise PromptError(
            "a chat template must end with a message of role 'user' that asks about the row"
        )
    head = [Message(turn["role"], turn["content"]) for turn in template[:-1]]
    return head, template[-1]["content"]
