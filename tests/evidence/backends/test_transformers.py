from __future__ import annotations

import inspect
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from contract import BackendContract

from skllm_calib import LLMClassifier
from skllm_calib.backends import LlamaCppBackend, Message, Reply, Request, clear_handles
from skllm_calib.evidence.backends.base import Choice, Dropout
from skllm_calib.evidence.backends.transformers.backend import TransformersBackend
from skllm_calib.evidence.label_tokens import LabelTree
from skllm_calib.exceptions import (
    BackendError,
    ContextTooLong,
    MissingDependency,
    ModelNotFound,
    SignalUnavailable,
    UnreadableReply,
)

ANSWERS = ("top up", "card")
QUESTION = "Classify the text. Answer with one word: card or top up.\n\nText: "
TEXTS = ("Where is my card?", "How do I add money?", "top upper")
HEAD = Dropout("head", 0.1, 12)
MODULES = Dropout("modules", 0.1, 5)
TRAINED = Dropout("trained", 0, 5)


def request(text=TEXTS[0], **options):
    message = Message("user", f"{QUESTION}{text}\nAnswer:")
    return Request((message,), **{"answers": ANSWERS, **options})


def ask(backend, *requests):
    answers = dict(backend.run(requests))
    return [answers[i] for i in range(len(requests))]


def masses(distributions, answers=ANSWERS):
    return LabelTree(answers).reduce({d.prefix: d for d in distributions})


def shares(reply):
    """The probability of the first answer in each pass."""
    points = np.array([masses(distributions).point for distributions in reply.passes])
    return points[:, 0] / points.sum(axis=1)


# ------------------------------------------------------------------------------- without a model


def test_a_model_that_does_not_exist(tmp_path):
    for name in (tmp_path / "none", tmp_path / "none.gguf", "./none", "none.gguf"):
        backend = TransformersBackend(str(name))
        with pytest.raises(ModelNotFound, match=r"no model .*none"):
            backend.run([request()])
        with pytest.raises(ModelNotFound, match=r"no model .*none"):
            backend.identity()


def test_an_adapter_that_does_not_exist(tmp_path):
    with pytest.raises(ModelNotFound, match=r"no adapter .*adapter_config\.json"):
        TransformersBackend(str(tmp_path), adapter=str(tmp_path)).identity()


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_the_packages(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=r"pip install 'skllm-calib\[transformers\]'"):
        TransformersBackend(str(tmp_path), device="cpu").run([request()])


def test_the_identity_is_that_of_the_content(tmp_path):
    folders = [tmp_path / name for name in "abc"]
    for folder, content in zip(folders, ("{}", "{}", "{ }"), strict=True):
        folder.mkdir()
        (folder / "config.json").write_text(content)
        (folder / "README.md").write_text(f"This is {folder.name}.")
    same, moved, other = (TransformersBackend(str(f), device="cpu").identity() for f in folders)
    assert same == moved
    assert same["model"] != other["model"]
    fast = TransformersBackend(str(folders[0]), device="cpu", n_threads=1, reuse_prefix=False)
    assert fast.identity() == same


def test_the_identity_of_a_name_on_the_hub():
    named = TransformersBackend("someone/some-model", device="cpu").identity()
    pinned = TransformersBackend("someone/some-model", revision="v1", device="cpu").identity()
    assert named["model"] == "someone/some-model"
    assert pinned["model"] == "someone/some-model@v1"
    # What the precision of the weights is elsewhere depends on the model.
    assert named["dtype"] == "float32"
    assert TransformersBackend("someone/x", device="cuda").identity()["dtype"] == "auto"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype='int8': must be one of auto, float32"),
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"n_threads": 0}, "n_threads=0: must be at least 1"),
        ({"revision": "v1"}, "revision='v1': only models on the Hugging Face hub"),
    ],
)
def test_parameters_that_mean_nothing(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        TransformersBackend(str(tmp_path), **{"device": "cpu", **options}).run([request()])


@pytest.mark.parametrize(
    ("dropout", "message"),
    [
        (Dropout("heads", 0.1, 3), "where='heads': must be 'head', 'modules' or 'trained'"),
        (Dropout("head", 0.0, 3), "rate=0.0: must be between 0 and 1"),
        (Dropout("head", float("nan"), 3), "rate=nan: must be between 0 and 1"),
        (Dropout("modules", 1.0, 3), "rate=1.0: must be between 0 and 1"),
        (Dropout("trained", 0.1, 3), "rate=0.1: with where='trained'.* must be 0"),
        (Dropout("head", 0.1, 0), "n_passes=0: must be at least 1"),
    ],
)
def test_dropout_that_means_nothing(dropout, message):
    with pytest.raises(ValueError, match=message):
        TransformersBackend().run([request(), request(dropout=dropout)])


# -------------------------------------------------------------------------------- a tiny model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Return the folder of a small random model."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tiny_model import save_tiny_model

    yield save_tiny_model(tmp_path_factory.mktemp("tiny"))
    clear_handles()


@pytest.fixture
def backend(tiny):
    return TransformersBackend(tiny, device="cpu", n_threads=1)


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory):
    pytest.importorskip("peft")
    from tiny_model import save_tiny_adapter

    return save_tiny_adapter(tmp_path_factory.mktemp("adapter"), tiny)


class TestTransformersBackend(BackendContract):
    @pytest.fixture
    def backend(self, tiny):
        return TransformersBackend(tiny, device="cpu", n_threads=1)

    @pytest.fixture
    def other(self, tiny):
        return TransformersBackend(tiny, device="cpu", n_threads=1, seed=1)


def whole_sequences(folder, messages, answers):
    """Sum the probabilities of every way to write each answer, each read in one go."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    turns = [{"role": m.role, "content": m.content} for m in messages]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    start = tokenizer.encode(prompt, add_special_tokens=False)
    pieces = [tokenizer.decode([i]) for i in range(len(tokenizer))]
    tree = LabelTree(answers)
    truth = np.zeros(len(answers))

    def go_on(ids, written, mass):
        with torch.inference_mode():
            logits = model(torch.tensor([start + ids])).logits[0, -1]
        for i, p in enumerate(logits.double().softmax(-1).tolist()):
            if i in tokenizer.all_special_ids or p * mass < 1e-7:
                continue
            found = tree.match((written + pieces[i]).encode())
            if found.complete is not None and not found.partial:
                truth[found.complete] += p * mass
            elif found.partial and len(ids) < 4:
                go_on([*ids, i], written + pieces[i], p * mass)

    go_on([], "", 1.0)
    return truth


@pytest.mark.parametrize("text", TEXTS)
def test_label_probabilities_are_those_of_whole_sequences(backend, tiny, text):
    asked = request(text)
    reply = ask(backend, asked)[0]
    truth = whole_sequences(tiny, asked.messages, ANSWERS)
    assert (truth > 0).all()
    # What is not worth following is a thousandth of all labels together, or of the label itself.
    point = masses(reply.distributions).point
    np.testing.assert_allclose(point, truth, rtol=1e-2, atol=1e-3 * truth.sum())
    assert len(reply.distributions) > 2  # both labels take several tokens here
    assert all(d.followed for d in reply.distributions)
    assert all(d.listed_mass == pytest.approx(1.0, abs=1e-5) for d in reply.distributions)


def test_an_unlikely_label_is_read_behind_the_listed_tokens(backend, monkeypatch):
    whole = masses(ask(backend, request())[0].distributions)
    monkeypatch.setattr("skllm_calib.evidence.backends.transformers.labels._N_LISTED", 2)
    monkeypatch.setattr("skllm_calib.evidence.backends.transformers.labels._N_LISTED_LONG", 3)
    reply = ask(backend, request())[0]
    assert reply.distributions[0].n_listed <= 3
    short = masses(reply.distributions)
    assert short.seen.all()
    # Only cuts into tokens that the tokenizer itself would not make are lost.
    assert (short.point <= whole.point * (1 + 1e-4)).all()
    assert (short.point > 0).all()


def test_what_is_written_is_the_beginning_of_an_answer(backend):
    for reply in ask(backend, *map(request, TEXTS)):
        assert any(a.startswith(reply.text.strip().lower()) for a in ANSWERS)


def test_remembering_the_beginning_changes_no_bit(backend, tiny):
    # Prompts that share zero, one and several steps, and one that is another's beginning.
    texts = ["a", "b " * 30 + "a", "b " * 30 + "c", "b " * 60, "b " * 30 + "a", "z"]
    requests = [request(text) for text in texts]
    afresh = TransformersBackend(tiny, device="cpu", n_threads=1, reuse_prefix=False)
    assert ask(backend, *requests) == ask(afresh, *requests)
    assert ask(backend, *requests[::-1])[::-1] == ask(afresh, *requests)
    assert afresh.identity() == backend.identity()


def test_the_shared_beginning_is_read_once(backend):
    engine = backend._engine()
    read = []
    hook = engine._model.model.register_forward_pre_hook(
        lambda module, inputs, options: read.append(options["input_ids"].shape[1]),
        with_kwargs=True,
    )
    engine._memory = None
    try:
        first, second = ask(backend, *(request("b " * 30 + x, answers=("A",)) for x in "ac"))
    finally:
        hook.remove()
    assert first.prompt_tokens < sum(read) < first.prompt_tokens + second.prompt_tokens


def test_prompts_are_counted_as_they_are_read(backend):
    one = request("b " * 30, answers=("A",))
    (reply,) = ask(backend, one)
    assert backend.count_tokens(one) == reply.prompt_tokens > 30


def test_models_whose_memory_slides_on(tiny):
    """With a short attention window the keys and values of a beginning are soon gone."""
    import torch
    from tiny_model import make_model, make_tokenizer
    from transformers import MistralConfig

    from skllm_calib.evidence.backends.transformers.engine import Settings, TorchEngine

    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer), config=MistralConfig, sliding_window=20)
    engine = TorchEngine(model, tokenizer, "sliding")
    requests = [request("b " * 30 + x) for x in "abc"]
    replies = [engine.answer(r, Settings(1, 8, True, 0)) for r in requests]
    assert replies == [engine.answer(r, Settings(1, 8, False, 0)) for r in requests]
    for asked, reply in zip(requests, replies, strict=True):
        with torch.inference_mode():
            whole = model(torch.tensor([engine._prompt(asked.messages)[0]])).logits[0, -1]
        likeliest = max(t.logprob for t in reply.distributions[0].tokens)
        assert likeliest == pytest.approx(whole.log_softmax(-1).max().item(), abs=1e-5)


@pytest.mark.parametrize("answers", [("A", "B"), ()])
def test_a_model_that_computes_no_numbers(tiny, answers):
    import torch
    from tiny_model import make_model, make_tokenizer

    from skllm_calib.evidence.backends.transformers.engine import Settings, TorchEngine

    tokenizer = make_tokenizer()
    model = make_model(len(tokenizer))
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    engine = TorchEngine(model, tokenizer, "odd")
    with pytest.raises(UnreadableReply, match="NaN"):
        engine.answer(request("hello", answers=answers), Settings(1, 8, False, 0))


def test_models_whose_memory_is_a_state():
    """Since transformers 5.24 they are given it like any other."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tiny_model import make_tokenizer

    from skllm_calib.evidence.backends.transformers.engine import Settings, TorchEngine

    if "cache" not in inspect.signature(transformers.MambaForCausalLM.forward).parameters:
        pytest.skip("this release of transformers hands the state of Mamba on in another way")
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2
    )
    model = transformers.MambaForCausalLM(config).eval()
    engine = TorchEngine(model, tokenizer, "states")
    requests = [request("b " * 30 + x) for x in "abc"]
    replies = [engine.answer(r, Settings(1, 8, True, 0)) for r in requests]
    assert replies == [engine.answer(r, Settings(1, 8, False, 0)) for r in requests]
    with torch.inference_mode():
        ids = engine._prompt(requests[0].messages)[0]
        whole = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    likeliest = max(t.logprob for t in replies[0].distributions[0].tokens)
    assert likeliest == pytest.approx(whole.max().item(), abs=1e-4)


def test_models_without_keys_and_values():
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tiny_model import make_tokenizer

    from skllm_calib.evidence.backends.transformers.engine import TorchEngine

    config = transformers.OpenAIGPTConfig(
        vocab_size=330, n_positions=64, n_embd=8, n_layer=1, n_head=1
    )
    with pytest.raises(ModelNotFound, match="OpenAIGPTLMHeadModel has no cache of keys and"):
        TorchEngine(transformers.OpenAIGPTLMHeadModel(config), make_tokenizer(), "gpt")


def test_a_row_that_torch_cannot_compute_costs_no_other(backend, monkeypatch):
    engine = backend._engine()
    tensor = engine._tensor

    def too_large(rows):
        if len(rows[0]) == 31:
            raise RuntimeError("not enough memory")
        return tensor(rows)

    texts = ["card " * n for n in range(1, 33)]  # of all lengths
    monkeypatch.setattr(engine, "_tensor", too_large)
    answers = ask(backend, *map(request, texts))
    failed = [a for a in answers if not isinstance(a, Reply)]
    assert 0 < len(failed) < len(texts)
    assert all("could not compute this row: not enough memory" in str(f) for f in failed)
    monkeypatch.undo()
    again = ask(backend, *map(request, texts))
    assert all(a == b for a, b in zip(answers, again, strict=True) if isinstance(a, Reply))


def test_a_text_that_is_too_long_costs_no_other_row(backend):
    first, second, third = ask(backend, request(), request("card " * 300), request(TEXTS[1]))
    assert isinstance(first, Reply)
    assert isinstance(third, Reply)
    assert isinstance(second, ContextTooLong)
    assert second.excess > 0
    assert f"{second.excess} more than fit into the context of this model (256)" in str(second)
    long = request("card", answers=(), max_tokens=500)
    assert isinstance(ask(backend, long)[0], ContextTooLong)


@pytest.mark.parametrize("text", ["a\0b", "é" * 20, "🙂 <|im_end|>", "\\ud83d", ""])
def test_odd_texts(backend, text):
    assert isinstance(ask(backend, request(text))[0], Reply)


def test_labels_in_other_scripts(backend):
    answers = ("да", "нет", "🙂")
    reply = ask(backend, request(answers=answers))[0]
    assert masses(reply.distributions, answers).seen.all()


def test_texts_are_repeatable_draws(backend, tiny):
    def write(backend, **options):
        options = {"answers": (), "max_tokens": 8, "temperature": 1.0, **options}
        return ask(backend, request(**options))[0]

    texts = {write(backend, draw=draw).text for draw in range(4)}
    assert len(texts) > 1
    assert write(backend, draw=1) == write(backend, draw=1)
    assert write(backend, temperature=0.0, draw=1) == write(backend, temperature=0.0)
    other = TransformersBackend(tiny, device="cpu", n_threads=1, seed=7)
    assert write(other) != write(backend)
    assert write(backend).completion_tokens <= 8


def test_greedy_text_is_that_of_transformers(backend):
    engine = backend._engine()
    asked = request(answers=(), max_tokens=12)
    (reply,) = ask(backend, asked)
    ids, _ = engine._prompt(asked.messages)
    from torch import tensor

    written = engine._model.generate(
        tensor([ids]), attention_mask=tensor([[1] * len(ids)]), max_new_tokens=12, do_sample=False
    )[0, len(ids) :]
    assert reply.text == engine._tokenizer.decode(written, skip_special_tokens=True)
    assert reply.completion_tokens > 3


def test_a_schema_is_left_out_and_said_so(backend):
    (reply,) = ask(backend, request(answers=(), max_tokens=3, schema='{"type": "object"}'))
    assert reply.refused == ("schema",)


def test_decisions_are_not_for_such_models(backend):
    asked = request(answers=(), choices=(Choice("a"), Choice("b")))
    failure, reply = ask(backend, asked, request())
    assert isinstance(failure, SignalUnavailable)
    assert isinstance(reply, Reply)


def test_several_threads_get_the_same_answers(backend):
    requests = [request(f"{i} " * 20) for i in range(4)]
    expected = ask(backend, *requests)
    with ThreadPoolExecutor(3) as pool:
        orders = [requests, requests[::-1], requests]
        answers = list(pool.map(lambda some: ask(backend, *some), orders))
    assert answers == [expected, expected[::-1], expected]


@pytest.mark.filterwarnings("ignore::skllm_calib.exceptions.OffLabelWarning")
def test_the_classifier_on_top(backend):
    # A model made at random, which hardly ever begins with these labels.
    clf = LLMClassifier(backend, classes=["ham", "spam"], max_off_label=1.0, cache=None)
    proba = clf.predict_proba(["You won a FREE prize!", "See you at six."])
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    assert np.isfinite(np.log(proba)).all()


def test_a_damaged_model(tiny, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelNotFound, match="could not load"):
        TransformersBackend(str(folder), device="cpu").run([request()])


def test_a_name_that_the_hub_does_not_know(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    pytest.importorskip("transformers")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match="could not load 'no-one/no-such-model'"):
        TransformersBackend("no-one/no-such-model", device="cpu").run([request()])


def test_chat_formats_without_a_system_turn(tmp_path, tiny):
    from tiny_model import TEMPLATE, save_tiny_model

    refusing = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    )
    folders = [save_tiny_model(tmp_path / "a", template=refusing + TEMPLATE)]
    folders.append(save_tiny_model(tmp_path / "b", template=None))
    system, user = Message("system", "Answer A or B."), Message("user", "hello")
    joined = Message("user", "Answer A or B.\n\nhello")
    options = {"device": "cpu", "n_threads": 1}
    (folded,) = ask(TransformersBackend(folders[0], **options), Request((system, user), ("A", "B")))
    (expected,) = ask(TransformersBackend(tiny, **options), Request((joined,), ("A", "B")))
    assert folded.distributions == expected.distributions
    assert folded.notes == ()
    (plain,) = ask(TransformersBackend(folders[1], **options), Request((system, user), ("A", "B")))
    assert "no chat template" in plain.notes[0]


def test_a_chat_format_that_refuses_everything(tmp_path, tiny):
    from tiny_model import save_tiny_model

    folder = save_tiny_model(tmp_path / "c", template="{{ raise_exception('never') }}")
    backend = TransformersBackend(folder, device="cpu", n_threads=1)
    system = Request((Message("system", "a"), Message("user", "b")), ("A", "B"))
    for failure in ask(backend, request(), system):
        assert isinstance(failure, BackendError)
        assert "the chat template refuses this conversation: never" in str(failure)


def test_a_tokenizer_that_changes_the_labels(backend, monkeypatch):
    engine = backend._engine()
    encode = engine._tokenizer.encode
    monkeypatch.setattr(engine, "_spellings", {})
    monkeypatch.setattr(
        engine._tokenizer, "encode", lambda text, **options: encode(text.upper(), **options)
    )
    (failure,) = ask(backend, request(answers=("ab", "c")))
    assert isinstance(failure, SignalUnavailable)
    assert "does not write 'ab' as it is" in str(failure)


def test_what_tokens_write():
    """In vocabularies of bytes (GPT-2) and of text with marked spaces (SentencePiece)."""
    from skllm_calib.evidence.backends.transformers.labels import Pieces

    class Vocabulary:
        def __init__(self, tokens, decoder):
            self.all_special_ids, self.added_tokens_decoder = [0], {}
            self.convert_ids_to_tokens = dict(enumerate(tokens)).get
            self.backend_tokenizer = SimpleNamespace(decoder=decoder)

    text = Vocabulary(["<s>", "\u2581card", "<0xC3>", "é"], "Sequence(ByteFallback)")
    assert list(map(Pieces(text), range(5))) == [b"", b" card", b"\xc3", "é".encode(), b""]
    raw = Vocabulary(["<s>", "Ġcard", "Ã", "Ċ", "<tool> €"], "ByteLevel()")
    assert list(map(Pieces(raw), range(4))) == [b"", b" card", b"\xc3", b"\n"]
    assert Pieces(raw)(4) == "<tool> €".encode()  # was added later, as text


# ------------------------------------------------------------------------------------- dropout


def test_dropout_at_the_head_is_that_of_its_masks(backend):
    """Against the final hidden state times a mask, through the output layer, by hand."""
    import torch

    from skllm_calib.evidence.backends.transformers.dropout import _generator, _mask

    asked = request(answers=("A", "B"), dropout=HEAD)
    (reply,) = ask(backend, asked)
    engine = backend._engine()
    ids, _ = engine._prompt(asked.messages)
    tree = LabelTree(("A", "B"))
    for i in (0, 7):
        with torch.inference_mode():
            hidden = engine._model.model(torch.tensor([ids])).last_hidden_state[0, -1]
            mask = _mask(hidden.shape, 0.1, _generator(asked, i, None, "cpu"), hidden)
            assert all(x in (0.0, pytest.approx(1 / 0.9)) for x in mask.tolist())
            proba = engine._model.lm_head(hidden * mask).softmax(-1).tolist()
        expected = np.zeros(2)
        for token, p in enumerate(proba):
            found = tree.match(engine._piece(token))
            if found.complete is not None:
                expected[found.complete] += p
        np.testing.assert_allclose(
            masses(reply.passes[i][:1], ("A", "B")).point, expected, rtol=1e-2
        )


@pytest.mark.parametrize("dropout", [HEAD, MODULES], ids=["head", "modules"])
def test_dropout_spreads_the_probabilities(backend, dropout):
    (reply,) = ask(backend, request(dropout=dropout))
    assert len(reply.passes) == dropout.n_passes
    assert all(d[0].prefix == b"" for d in reply.passes)
    assert all(d.followed for distributions in reply.passes for d in distributions)
    assert 0 < shares(reply).mean() < 1
    assert shares(reply).std() > 3e-4
    # More is dropped, more is spread.
    little, much = (
        ask(backend, request(dropout=dropout._replace(rate=rate)))[0] for rate in (0.001, 0.5)
    )
    assert shares(little).std() < shares(much).std()
    # What is reported besides is what the model says without.
    (plain,) = ask(backend, request())
    assert reply.distributions == plain.distributions
    assert reply.text == plain.text
    assert Reply.from_json(reply.to_json()) == reply


@pytest.mark.parametrize("dropout", [HEAD, MODULES], ids=["head", "modules"])
def test_dropout_depends_on_the_request_alone(backend, tiny, dropout):
    requests = [request(text, dropout=dropout) for text in TEXTS]
    expected = ask(backend, *requests)
    assert ask(backend, *requests[::-1])[::-1] == expected
    assert ask(backend, request("z"), requests[1])[1] == expected[1]
    afresh = TransformersBackend(tiny, device="cpu", n_threads=1, reuse_prefix=False)
    assert ask(afresh, requests[2]) == expected[2:]
    passes = [reply.passes for reply in expected]
    assert passes[0] != passes[1]
    assert len({str(p) for p in passes[0]}) == dropout.n_passes
    other = request(TEXTS[0], dropout=dropout._replace(seed=1))
    assert ask(backend, other)[0].passes != passes[0]


@pytest.mark.parametrize("dropout", [HEAD, MODULES], ids=["head", "modules"])
def test_more_passes_go_on_where_fewer_ended(backend, dropout):
    few, many = (
        shares(ask(backend, request(dropout=dropout._replace(n_passes=n)))[0]) for n in (3, 6)
    )
    np.testing.assert_allclose(few, many[:3], rtol=1e-3)


def test_the_size_of_a_batch_changes_no_pass(backend, tiny):
    alone = TransformersBackend(tiny, device="cpu", n_threads=1, batch_size=2)
    one, other = (ask(b, request(dropout=MODULES))[0] for b in (backend, alone))
    np.testing.assert_allclose(shares(one), shares(other), rtol=1e-3)


@pytest.mark.parametrize("dropout", [HEAD, MODULES], ids=["head", "modules"])
def test_dropout_leaves_nothing_behind(backend, dropout):
    import torch

    requests = [request(text) for text in TEXTS]
    before, state = ask(backend, *requests), torch.get_rng_state()
    ask(backend, request(dropout=dropout))
    assert ask(backend, *requests) == before
    assert torch.equal(torch.get_rng_state(), state)
    model = backend._engine()._model
    assert not any(m.training or m._forward_hooks for m in model.modules())


def test_dropout_goes_away_after_a_failure(backend, monkeypatch):
    before = ask(backend, request())
    model = backend._engine()._model

    def fail(self, path):
        raise SignalUnavailable("out of luck")

    with monkeypatch.context() as m:
        m.setattr("skllm_calib.evidence.backends.transformers.dropout.LayerDropout.begin", fail)
        assert isinstance(ask(backend, request(dropout=MODULES))[0], SignalUnavailable)
    assert not any(m._forward_hooks for m in model.modules())
    assert ask(backend, request()) == before


def test_attention_without_dropout_is_that_of_torch():
    """What stands in for torch's attention computes the same, for every kind of mask."""
    torch = pytest.importorskip("torch")
    from skllm_calib.evidence.backends.transformers.dropout import _attention_dropout

    attention = torch.nn.functional.scaled_dot_product_attention
    g = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 5, 8, generator=g)
    key, value = torch.randn(2, 2, 2, 7, 8, generator=g)
    seen = torch.ones(5, 7, dtype=torch.bool).tril(2)
    cases = [
        {"enable_gqa": True},
        {"enable_gqa": True, "attn_mask": seen, "scale": 0.3},
        {"enable_gqa": True, "attn_mask": torch.randn(5, 7, generator=g)},
    ]
    asked = [(query, key, value, options) for options in cases]
    asked.append((query, query + 1, query - 1, {"is_causal": True}))
    for q, k, v, options in asked:
        expected = attention(q, k, v, **options)
        with _attention_dropout(lambda x, rate: x * rate, 0.2):
            torch.testing.assert_close(attention(q, k, v, **options), expected * 0.2)


def test_attention_weights_are_dropped_too(backend, monkeypatch):
    whole = shares(ask(backend, request(dropout=MODULES))[0])
    monkeypatch.setattr(
        "skllm_calib.evidence.backends.transformers.dropout._branches", lambda model: []
    )
    attention_only = shares(ask(backend, request(dropout=MODULES))[0])
    assert attention_only.std() > 0
    assert not np.allclose(attention_only, whole)


def test_dropout_as_trained_needs_a_rate_above_zero(backend):
    failure, reply = ask(backend, request(dropout=TRAINED), request())
    assert isinstance(failure, SignalUnavailable)
    assert "ship with dropout probability 0" in str(failure)
    assert "where='head'" in str(failure)
    assert isinstance(reply, Reply)


def test_an_adapter_changes_the_answers_and_the_identity(backend, tiny, adapter):
    adapted = TransformersBackend(tiny, adapter=adapter, device="cpu", n_threads=1)
    (one,), (other,) = ask(backend, request()), ask(adapted, request())
    assert one.distributions != other.distributions
    assert adapted.identity() != backend.identity()
    assert ask(backend, request()) == [one]  # a model of its own


def test_dropout_as_trained_with_an_adapter(tiny, adapter):
    adapted = TransformersBackend(tiny, adapter=adapter, device="cpu", n_threads=1)
    requests = [request(text, dropout=TRAINED) for text in TEXTS]
    replies = ask(adapted, *requests)
    assert all(shares(reply).std() > 1e-4 for reply in replies)
    assert ask(adapted, requests[1], requests[0]) == [replies[1], replies[0]]
    (plain,) = ask(adapted, request())
    assert plain.distributions == replies[0].distributions


def test_an_adapter_trained_without_dropout_has_none(tiny, tmp_path):
    pytest.importorskip("peft")
    from tiny_model import save_tiny_adapter

    folder = save_tiny_adapter(tmp_path / "plain", tiny, dropout=0.0)
    adapted = TransformersBackend(tiny, adapter=folder, device="cpu", n_threads=1)
    assert isinstance(ask(adapted, request(dropout=TRAINED))[0], SignalUnavailable)


# ------------------------------------------------------------------------------- a real model


@pytest.fixture(scope="module")
def real(smollm2):
    for package in ("torch", "transformers", "gguf", "accelerate"):
        pytest.importorskip(package)
    yield TransformersBackend(device="cpu", n_threads=1)
    clear_handles()


@pytest.fixture
def expanded(smollm2, tmp_path):
    """Return a GGUF file with the small model's weights as float32 numbers (540 MB)."""
    import gguf

    path = tmp_path / "expanded.gguf"
    read, writer = gguf.GGUFReader(smollm2), gguf.GGUFWriter(path, "llama")
    written_anyway = ("general.architecture", "general.file_type", "general.quantization_version")
    for field in read.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in written_anyway:
            of_what = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=of_what)
    for t in read.tensors:
        numbers = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        writer.add_tensor(t.name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    yield path
    clear_handles()
    path.unlink()


@pytest.mark.local_llm
def test_agreement_with_llama_cpp(real, expanded):
    requests = [request(text) for text in TEXTS]
    here = ask(real, *requests)

    def compare(llama, apart):
        for one, other in zip(here, ask(llama, *requests), strict=True):
            assert one.prompt_tokens == other.prompt_tokens
            # llama.cpp, where each costs a request, looks behind fewer beginnings.
            both = {d.prefix for d in one.distributions} & {d.prefix for d in other.distributions}
            read = [[d for d in r.distributions if d.prefix in both] for r in (one, other)]
            points = [masses(distributions).point for distributions in read]
            np.testing.assert_allclose(*map(np.log, points), atol=apart)
            points = [masses(r.distributions).point for r in (one, other)]
            np.testing.assert_allclose(*map(np.log, points), atol=apart + 0.05)

    # The same numbers give the same probabilities (measured: 0.005 nats apart).
    compare(LlamaCppBackend(str(expanded), n_ctx=512), 0.02)
    # With quantised weights llama.cpp also rounds what it multiplies them with (0.63).
    compare(LlamaCppBackend(n_ctx=512), 1.0)


@pytest.mark.local_llm
def test_a_real_model_with_thirty_masks(real):
    asked = request(dropout=Dropout("head", 0.1, 30))
    (reply,) = ask(real, asked)
    assert len(reply.passes) == 30
    assert 1e-3 < shares(reply).std() < 0.5
    (plain,) = ask(real, request())
    assert reply.distributions == plain.distributions
