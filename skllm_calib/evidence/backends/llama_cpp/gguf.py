"""What a GGUF file says of its vocabulary; the format is described in ggml's ``docs/gguf.md``."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from skllm_calib.evidence.backends.framing import is_mark

__all__ = ["special_tokens"]

_FORMATS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_CONTROL, _USER_DEFINED = 3, 4  # kinds of tokens


def special_tokens(path: Path) -> dict[int, str]:
    """Return the tokens of a model that mark something, by their ids.

    Parameters
    ----------
    path : Path
        A GGUF file.

    Returns
    -------
    dict of int to str
        Control tokens, and tokens added by the user that look like marks. Empty where the file
        lists no tokens.
    """
    wanted: dict[str, list[Any]] = {"tokenizer.ggml.tokens": [], "tokenizer.ggml.token_type": []}
    with open(path, "rb") as file:
        file.seek(16)  # the name of the format, its version, and how many tensors there are
        for _ in range(_number(file, "Q")):
            key = _string(file).decode(errors="replace")
            value = _value(file, _number(file, "I"), keep=key in wanted)
            if key in wanted:
                wanted[key] = value
            if all(wanted.values()):
                break
    tokens, kinds = wanted.values()
    return {
        i: name.decode(errors="replace")
        for i, (name, kind) in enumerate(zip(tokens, kinds, strict=False))
        if kind == _CONTROL or (kind == _USER_DEFINED and is_mark(name.decode(errors="replace")))
    }


def _number(file: BinaryIO, form: str) -> Any:
    size = struct.calcsize(f"<{form}")
    return struct.unpack(f"<{form}", file.read(size))[0]


def _string(file: BinaryIO) -> bytes:
    return file.read(_number(file, "Q"))


def _value(file: BinaryIO, kind: int, *, keep: bool) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _number(file, _FORMATS[kind])
    kind, n = _number(file, "I"), _number(file, "Q")
    if kind in (_STRING, _ARRAY):
        values = (_value(file, kind, keep=keep) for _ in range(n))
        return list(values) if keep else [None for _ in values][:0]
    form = f"<{n}{_FORMATS[kind]}"
    return list(struct.unpack(form, file.read(struct.calcsize(form))))
