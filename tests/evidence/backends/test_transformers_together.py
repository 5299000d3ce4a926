"""Several prompts in one forward pass give the numbers of one by one, but for their last digits."""

from __future__ import annotations

import numpy as np
import pytest

from skllm_calib.backends import (
    Dropout,
    LabelTree,
    Message,
    Reply,
    Request,
    TransformersBackend,
    clear_handles,
)
from skllm_calib.exceptions import ContextTooLong, InvalidInput

ANSWERS = ("top up", "card")
TEXTS = ("Where is my card?", "a", "How do I add money? " * 3, "top upper", "b " * 40)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny_model import save_tiny_model

    yield save_tiny_model(tmp_path_factory.mktemp("tiny"))
    clear_handles()


def backend(tiny, n_together, **options):
    return TransformersBackend(tiny, device="cpu", n_threads=1, n_together=n_together, **options)


def request(text, **options):
    message = Message("user", f"Answer with one word: card or top up.\n\nText: {text}\nAnswer:")
    return Request((message,), **{"answers": ANSWERS, **options})


def ask(backend, *requests):
    answers = dict(backend.run(requests))
    return [answers[i] for i in range(len(requests))]


def widths(engine, run):
    """Tokens that the model read, row by row."""
    read = []
    hook = engine._model.model.register_forward_pre_hook(
        lambda module, inputs, options: read.append(tuple(options["input_ids"].shape)),
        with_kwargs=True,
    )
    try:
        run()
    finally:
        hook.remove()
    return read


def assert_same(replies, others):
    for one, other in zip(replies, others, strict=True):
        assert (one.text, one.prompt_tokens, one.notes) == (
            other.text,
            other.prompt_tokens,
            other.notes,
        )
        points = [
            LabelTree(ANSWERS).reduce({d.prefix: d for d in r.distributions}).point
            for r in (one, other)
        ]
        np.testing.assert_allclose(*points, rtol=1e-4)
        for a, b in zip(one.distributions, other.distributions, strict=True):
            assert a.prefix == b.prefix
            np.testing.assert_allclose(a.tokens[0].logprob, b.tokens[0].logprob, atol=1e-5)


@pytest.mark.parametrize("n_together", [2, 3, 8])
def test_together_as_one_by_one(tiny, n_together):
    requests = [request(text) for text in TEXTS]
    alone = ask(backend(tiny, 1), *requests)
    together = ask(backend(tiny, n_together), *requests)
    assert_same(together, alone)
    assert ask(backend(tiny, n_together), *requests) == together  # nothing is drawn
    assert ask(backend(tiny, 1), *requests) == alone  # and nothing is left behind
    assert backend(tiny, n_together).identity() == backend(tiny, 1).identity()


def test_what_prompts_share_is_read_once_and_the_rest_in_one_pass(tiny):
    together = backend(tiny, 8)
    engine = together._engine()
    engine._memory = None
    prompts = [engine._prompt(request(text).messages)[0] for text in TEXTS]
    read = widths(engine, lambda: ask(together, *map(request, TEXTS)))
    first = next(i for i, (rows, _) in enumerate(read) if rows == len(TEXTS))
    assert {rows for rows, _ in read[:first]} == {1}
    shared = sum(length for _, length in read[:first])
    assert shared > 20
    assert read[first] == (len(TEXTS), max(map(len, prompts)) - shared)


def test_what_cannot_be_read_together_is_asked_alone(tiny):
    requests = [
        request("a"),
        request("word " * 300),
        request("b"),
        request("c", answers=(), max_tokens=3),
        request("d", dropout=Dropout("head", 0.1, 2)),
        request("e"),
    ]
    alone, answers = (ask(backend(tiny, n), *requests) for n in (1, 8))
    assert isinstance(answers[1], ContextTooLong)
    assert answers[3:5] == alone[3:5]
    assert_same([answers[0], answers[2], answers[5]], [alone[0], alone[2], alone[5]])


def test_models_whose_memory_forgets_read_one_by_one():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny_model import make_model, make_tokenizer
    from transformers import MistralConfig

    from skllm_calib.evidence.backends.transformers.engine import Settings, TorchEngine

    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer), config=MistralConfig, sliding_window=20)
    engine, settings = TorchEngine(model, tokenizer, "sliding"), Settings(1, 8, True, 0)
    requests = [request(text) for text in TEXTS[:3]]
    together = engine.answer_together(requests, settings)
    assert together == [engine.answer(r, settings) for r in requests]


def test_prompts_that_share_nothing(tiny):
    engine = backend(tiny, 8)._engine()
    prompts = iter([[5, 6, 7], [8, 9]])
    engine_prompt, engine._prompt = engine._prompt, lambda messages: (next(prompts), ())
    try:
        assert engine._labels_together([request("a"), request("b")], 8) == []
    finally:
        engine._prompt = engine_prompt


def test_one_at_least(tiny):
    with pytest.raises(InvalidInput, match="n_together=0"):
        backend(tiny, 0).run([request("a")])
    assert all(isinstance(r, Reply) for r in ask(backend(tiny, 4), request("a")))
