"""Dropout at inference: the same question, read many times with other parts of the model silenced.

The spread of such readings approximates what a posterior over the weights would give (Gal and
Ghahramani 2016). Every mask is drawn from the content of the request and the number of the pass, so
neither other requests nor the size of a batch change it; and nothing is left behind: masks come in
through hooks that are removed, no module is ever put into training mode.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from skllm_calib.evidence.backends.base import Dropout, Request
from skllm_calib.exceptions import InvalidInput, SignalUnavailable

__all__ = ["LayerDropout", "check_dropout", "content_seed", "head_dropout"]

_PLACES = ("head", "modules", "trained")


def check_dropout(dropout: Dropout) -> None:
    """Check the values of a `Dropout`.

    Raises
    ------
    ValueError
        For an unknown place, a rate outside of (0, 1), or fewer than one pass.
    """
    if dropout.where not in _PLACES:
        raise InvalidInput(
            f"where={dropout.where!r}: must be 'head', 'modules' or 'trained'",
            "where",
            value=dropout.where,
        )
    if dropout.where == "trained":
        if dropout.rate != 0:
            raise InvalidInput(
                f"rate={dropout.rate!r}: with where='trained' every module drops at the rate it "
                "was trained with, so rate must be 0",
                "rate",
                value=dropout.rate,
            )
    elif not 0 < dropout.rate < 1:
        raise InvalidInput(
            f"rate={dropout.rate!r}: must be between 0 and 1, both excluded, for example 0.1",
            "rate",
            value=dropout.rate,
        )
    if dropout.n_passes < 1:
        raise InvalidInput(
            f"n_passes={dropout.n_passes!r}: must be at least 1", "n_passes", value=dropout.n_passes
        )


def content_seed(*content: Any) -> int:
    """Turn plain values into a seed: what is the same gets the same, wherever it stands."""
    text = json.dumps(content, ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _generator(request: Request, i: int, place: Sequence[int] | None, device: Any) -> Any:
    """Make the source of the masks of pass `i`, after the beginning of an answer or before it."""
    import torch  # noqa: PLC0415 (optional)

    d = request.dropout
    assert d is not None
    # Without n_passes: more passes go on where fewer ended.
    seed = content_seed(request.messages, request.answers, d.where, d.rate, d.seed, i, place)
    return torch.Generator(device=device).manual_seed(seed)


def _mask(shape: Sequence[int], rate: float, generator: Any, like: Any) -> Any:
    """Draw an inverted-dropout mask: zeros, and what keeps the mean elsewhere."""
    import torch  # noqa: PLC0415 (optional)

    kept = torch.rand(*shape, generator=generator, device=generator.device) >= rate
    return kept.to(like.dtype) / (1 - rate)


@contextmanager
def head_dropout(model: Any, request: Request) -> Iterator[None]:
    """Let every row that `model` reads give n_passes rows of logits, pass by pass.

    The masks lie on the final hidden state, so that all passes share one reading of the prompt,
    and pass i has the same mask at every token of a label.

    Raises
    ------
    SignalUnavailable
        If the model has no output layer of its own.
    """
    import torch  # noqa: PLC0415 (optional)

    head = model.get_output_embeddings()
    if head is None:
        raise SignalUnavailable(
            "where='head' needs a model with an output layer of its own: use where='modules'"
        )
    dropout = request.dropout
    assert dropout is not None
    masks: list[Any] = []

    def multiply(layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0][:, -1:]
        if not masks:
            drawn = (_generator(request, i, None, hidden.device) for i in range(dropout.n_passes))
            size = hidden.shape[-1:]
            masks.append(torch.stack([_mask(size, dropout.rate, g, hidden) for g in drawn]))
        return ((hidden * masks[0][:, None, None]).flatten(0, 1),)

    hook = head.register_forward_pre_hook(multiply)
    try:
        yield
    finally:
        hook.remove()


class LayerDropout:
    """Several passes at once with dropout inside of the layers; a context manager.

    With where="modules", on what attention and feed-forward blocks add to the residual stream, and
    on the attention weights where attention is torch's own function; with where="trained", in the
    modules that have a dropout rate of their own.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model in evaluation mode.
    request : Request
        With `dropout`.
    passes : range
        The numbers of the passes to make, one per row of the batch.

    Raises
    ------
    SignalUnavailable
        If there is nothing in the model where this dropout could act.
    """

    def __init__(self, model: Any, request: Request, passes: range) -> None:
        assert request.dropout is not None
        self._request, self._passes = request, passes
        self._device = model.device
        self._generators: list[Any] = []
        self._undo = ExitStack()
        self._attention = request.dropout.where == "modules"
        if self._attention:
            self._rates = [(module, request.dropout.rate) for module in _branches(model)]
        else:
            self._rates = _trained(model)

    def begin(self, path: tuple[int, ...] | None) -> None:
        """Draw anew for what is read next: the prompt (None), or a beginning of an answer."""
        self._generators = [_generator(self._request, i, path, self._device) for i in self._passes]

    def __enter__(self) -> LayerDropout:
        for module, rate in self._rates:
            hook = module.register_forward_hook(self._hook(rate))
            self._undo.callback(hook.remove)
        if self._attention:
            assert self._request.dropout is not None
            self._undo.enter_context(_attention_dropout(self._drop, self._request.dropout.rate))
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def _hook(self, rate: float) -> Callable[[Any, Any, Any], Any]:
        def drop(module: Any, inputs: Any, output: Any) -> Any:
            if isinstance(output, tuple):  # attention gives its weights along
                return (self._drop(output[0], rate), *output[1:])
            return self._drop(output, rate)

        return drop

    def _drop(self, x: Any, rate: float) -> Any:
        """Mask each row from the source of its own pass, whatever else is in the batch."""
        import torch  # noqa: PLC0415 (optional)

        size, rest = divmod(x.numel(), len(self._generators))
        if rest:
            raise SignalUnavailable(
                "the dropout of this model acts on parts that do not belong to one text alone: use "
                "where='head'"
            )
        rows = torch.stack([_mask((size,), rate, g, x) for g in self._generators])
        return x * rows.reshape(x.shape)


def _branches(model: Any) -> list[Any]:
    """Find the blocks of each layer whose output is added to the residual stream.

    They are what has parts of its own there: norms, activations and dropouts have none.
    """
    import torch  # noqa: PLC0415 (optional)

    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    stacks = (m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    layers = next((m for m in stacks if len(m) == n_layers), ())
    branches = [part for layer in layers for part in layer.children() if any(part.children())]
    if not branches:
        raise SignalUnavailable(
            f"where='modules': found no attention or feed-forward blocks in the layers of "
            f"{type(model).__name__}: use where='head'"
        )
    return branches


def _trained(model: Any) -> list[tuple[Any, float]]:
    """Find the modules that dropped out in training, and their rates."""
    import torch  # noqa: PLC0415 (optional)

    modules = [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    acting = [(m, float(m.p)) for m in modules if 0 < m.p < 1]
    if not acting:
        raise SignalUnavailable(
            f"where='trained': none of the {len(modules)} dropout modules of this model has a "
            "rate above 0. Modern decoders ship with dropout probability 0, so training mode would "
            "change nothing: use where='head' or where='modules', or an adapter that was trained "
            "with dropout"
        )
    return acting


def _attention_dropout(drop: Callable[[Any, float], Any], rate: float) -> Any:
    """Return a context in which torch's attention drops some of the attention weights.

    torch's own `dropout_p` draws from the source of random numbers that all programs in this
    process share; this one draws from the passes'. It acts in this thread only.
    """
    import torch  # noqa: PLC0415 (optional)
    from torch.overrides import TorchFunctionMode  # noqa: PLC0415 (optional)

    attention = torch.nn.functional.scaled_dot_product_attention

    def attend(  # noqa: PLR0917 (torch's signature)
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        """Compute what torch's function does, as its documentation spells it out."""
        if enable_gqa:
            key, value = (
                x.repeat_interleave(query.size(-3) // x.size(-3), -3) for x in (key, value)
            )
        scores = query @ key.transpose(-2, -1) * (scale or query.size(-1) ** -0.5)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        return drop(scores.softmax(-1), rate) @ value

    class AttentionDropout(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            called = attend if function is attention else function
            return called(*args, **(kwargs or {}))

    return AttentionDropout()
