"""Hugging Face causal language models in this process, through ``transformers`` and ``torch``.

The label probabilities are exact: the whole distribution over the vocabulary is known and a label
of several tokens is followed token by token. It is the backend for what needs the inside of a
model: LoRA adapters and dropout at inference. This file holds the parameters and loads the model,
``engine`` runs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from skllm_calib.evidence.backends.base import AnswerForm, BaseBackend, Reply, Request
from skllm_calib.evidence.backends.handles import get_handle
from skllm_calib.evidence.backends.llama_cpp.backend import file_digest
from skllm_calib.evidence.backends.llama_cpp.smollm2 import find_smollm2
from skllm_calib.evidence.backends.pool import answer_all
from skllm_calib.evidence.backends.transformers.dropout import check_dropout
from skllm_calib.evidence.backends.transformers.engine import Settings, TorchEngine
from skllm_calib.exceptions import BackendError, InvalidInput, MissingDependency, ModelNotFound

__all__ = ["TransformersBackend"]

_DTYPES = ("auto", "float32", "bfloat16", "float16")
_NEEDED = "transformers models need more packages: pip install 'skllm-calib[transformers]'"


class TransformersBackend(BaseBackend):
    """A causal language model run by Hugging Face transformers inside this process.

    Parameters
    ----------
    model : str, default="smollm2"
        A folder with a saved model, the path of a GGUF file, or a name on the Hugging Face hub
        (downloaded as usual by transformers); "smollm2" for the small model installed by pip
        (``skllm-calib download smollm2``).
    adapter : str or None, default=None
        Folder of a LoRA adapter [1]_ for the model, as saved by peft.
    revision : str or None, default=None
        Branch, tag or commit of a model on the hub; None means its main branch.
    device : str or None, default=None
        Where to compute, such as "cpu" or "cuda:1"; None takes a CUDA device if torch sees one.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the weights; "auto" is float32 on the CPU and that of the saved model
        elsewhere. Probabilities are always computed in float32 from the logits.
    n_threads : int or None, default=None
        Processor cores to use; None leaves torch as it is. torch has one number of threads for
        the whole process. More threads than free cores can make it many times slower.
    batch_size : int, default=8
        How many beginnings of labels, or passes with dropout inside of the layers, are read at a
        time.
    n_together : int, default=1
        How many prompts of similar length are read at a time, where no dropout is wanted and the
        model's memory allows it. One by one, no request changes the numbers of another; together
        they are faster, above all on a GPU, and the log-probabilities of a row change with its
        company in their last digits (1e-5).
    reuse_prefix : bool, default=True
        Whether the beginning that a prompt shares with the one before is read once. Turn it off
        only to measure what it saves: the numbers are the same.
    seed : int, default=0
        Another seed gives other sampled texts, at a temperature above 0.

    Notes
    -----
    With ``Request.dropout`` the label probabilities are read several times with dropout at
    inference [2]_: on the final hidden state ("head", the prompt is read once), inside of every
    layer ("modules"), or where the model was trained with it ("trained", such as the
    ``lora_dropout`` of an adapter). The masks depend on the content of the request only.

    A GGUF file is expanded to `dtype` in memory, so that a quantised model takes several times the
    size of its file; LlamaCppBackend computes with the quantised weights and is faster.

    Every worker process loads a model of its own: for local models use ``n_jobs=1`` or threads in
    scikit-learn's tools.

    References
    ----------
    .. [1] E. J. Hu et al. "LoRA: Low-Rank Adaptation of Large Language Models." ICLR 2022.
    .. [2] Y. Gal and Z. Ghahramani. "Dropout as a Bayesian Approximation: Representing Model
       Uncertainty in Deep Learning." ICML 2016.

    Examples
    --------
    >>> from skllm_calib.backends import TransformersBackend
    >>> TransformersBackend("models/my-model", adapter="models/my-adapter")
    TransformersBackend(adapter='models/my-adapter', model='models/my-model')
    """

    answer_form: AnswerForm = "words"
    shows_logprobs = True

    def __init__(
        self,
        model: str = "smollm2",
        *,
        adapter: str | None = None,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        n_threads: int | None = None,
        batch_size: int = 8,
        n_together: int = 1,
        reuse_prefix: bool = True,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.adapter = adapter
        self.revision = revision
        self.device = device
        self.dtype = dtype
        self.n_threads = n_threads
        self.batch_size = batch_size
        self.n_together = n_together
        self.reuse_prefix = reuse_prefix
        self.seed = seed

    def identity(self) -> dict[str, Any]:
        """Return what changes an answer: the content of local files, not where they are."""
        return {
            "provider": "transformers",
            "model": self._source().name,
            "adapter": self._adapter_digest(),
            "dtype": self._precision(),
            "seed": self.seed,
        }

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | BackendError]]:
        """Answer the requests, `n_together` at a time.

        Raises
        ------
        ValueError
            For an invalid parameter or ``Request.dropout``.
        ModelNotFound
            If there is no such model, or transformers cannot load it.
        MissingDependency
            If torch, transformers or, for adapters, peft is not installed.
        """
        for request in requests:
            if request.dropout is not None:
                check_dropout(request.dropout)
        for name in ("batch_size", "n_together", "n_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidInput(f"{name}={value!r}: must be at least 1", name, value=value)
        engine = self._engine()
        settings = Settings(self.n_threads, self.batch_size, self.reuse_prefix, self.seed)
        if self.n_together == 1:
            return answer_all(lambda request: engine.answer(request, settings), requests, 1)
        return self._run_together(engine, requests, settings)

    def _run_together(
        self, engine: TorchEngine, requests: Sequence[Request], settings: Settings
    ) -> Iterator[tuple[int, Reply | BackendError]]:
        def kind(i: int) -> tuple[bool, int]:
            """Tell those that can be read together, and how long they are."""
            request = requests[i]
            is_plain = bool(request.answers) and not request.choices and request.dropout is None
            return is_plain, sum(len(message.content) for message in request.messages)

        order = sorted(range(len(requests)), key=kind)
        for is_plain, group in itertools.groupby(order, key=lambda i: kind(i)[0]):
            alike, size = list(group), self.n_together if is_plain else 1
            for first in range(0, len(alike), size):
                some = alike[first : first + size]
                answers = engine.answer_together([requests[i] for i in some], settings)
                yield from zip(some, answers, strict=True)

    def _source(self) -> _Source:
        path = find_smollm2() if self.model == "smollm2" else Path(self.model).expanduser()
        if self.revision is not None and path.exists():
            raise InvalidInput(
                f"revision={self.revision!r}: only models on the Hugging Face hub have revisions, "
                f"and {self.model!r} is on this machine",
                "revision",
                value=self.revision,
            )
        if path.is_file():
            return _Source(str(path.parent), {"gguf_file": path.name}, file_digest(path))
        if path.is_dir():
            return _Source(str(path), {}, _folder_digest(path))
        if path.suffix == ".gguf" or path.is_absolute() or self.model.startswith((".", "~")):
            raise ModelNotFound(
                f"no model {self.model!r}: 'model' of the transformers backend is a folder with a "
                "saved model, the path of a GGUF file, a name on the Hugging Face hub, or "
                "'smollm2' for the small model installed by pip"
            )
        name = f"{self.model}@{self.revision}" if self.revision else self.model
        return _Source(self.model, {"revision": self.revision or "main"}, name)

    def _adapter_digest(self) -> str | None:
        if self.adapter is None:
            return None
        folder = Path(self.adapter).expanduser()
        if not (folder / "adapter_config.json").is_file():
            raise ModelNotFound(
                f"no adapter in {self.adapter!r}: 'adapter' is a folder as saved by peft, with an "
                "adapter_config.json in it"
            )
        return _folder_digest(folder)

    def _device(self) -> str:
        if self.device is not None:
            return self.device
        if importlib.util.find_spec("torch") is None:
            return "cpu"  # so that cached replies can be read without torch
        import torch  # noqa: PLC0415 (optional)

        return "cuda" if torch.cuda.is_available() else "cpu"

    def _precision(self) -> str:
        if self.dtype not in _DTYPES:
            raise InvalidInput(
                f"dtype={self.dtype!r}: must be one of {', '.join(_DTYPES)}",
                "dtype",
                value=self.dtype,
            )
        if self.dtype == "auto" and self._device().startswith("cpu"):
            return "float32"
        return self.dtype

    def count_tokens(self, request: Request) -> int:
        """Return how many tokens the prompt of a request has, in the model's own chat format."""
        return self._engine().count_tokens(request)

    def _engine(self) -> TorchEngine:
        source, digest = self._source(), self._adapter_digest()
        device, dtype = self._device(), self._precision()
        key = ("transformers", source.where, source.name, digest, device, dtype)
        return get_handle(key, lambda: _load(source, self.adapter, device, dtype))


class _Source(NamedTuple):
    """Where a model is.

    Attributes
    ----------
    where : str
        A folder, or a name on the hub.
    options : dict
        What transformers needs besides to find it.
    name : str
        What it is called in replies: the digest of its content, for a local model.
    """

    where: str
    options: dict[str, str]
    name: str


def _load(source: _Source, adapter: str | None, device: str, dtype: str) -> TorchEngine:
    """Load a model and its tokenizer, quietly."""
    try:
        import torch  # noqa: PLC0415 (optional)
        import transformers  # noqa: PLC0415 (optional)
    except ImportError as e:
        raise MissingDependency(f"{_NEEDED} (importing them said: {e})") from e
    what = source.options.get("gguf_file") or source.where
    try:
        with _quietly(transformers):
            model = transformers.AutoModelForCausalLM.from_pretrained(
                source.where,
                dtype=dtype if dtype == "auto" else getattr(torch, dtype),
                **source.options,
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(source.where, **source.options)
            if adapter is not None:
                what = adapter
                model = _adapted(model, adapter)
            model = model.to(device).eval()
            # Texts that are too long are refused with an error, so that no advice is needed.
            tokenizer.model_max_length = sys.maxsize
    except ImportError as e:
        raise MissingDependency(f"{_NEEDED} (loading {what!r} said: {e})") from e
    except BackendError:
        raise
    except Exception as e:  # whatever a damaged file or an unknown name leads to
        raise ModelNotFound(
            f"transformers could not load {what!r}: there is no such model, it is damaged, or of "
            f"a kind this version does not know ({type(e).__name__}: {str(e)[:500]})"
        ) from e
    commit = getattr(model.config, "_commit_hash", None) if "revision" in source.options else None
    return TorchEngine(model, tokenizer, f"{source.where}@{commit}" if commit else source.name)


def _adapted(model: Any, adapter: str) -> Any:
    import peft  # noqa: PLC0415 (optional)

    adapted = peft.PeftModel.from_pretrained(model, str(Path(adapter).expanduser()))
    if adapted.active_peft_config.is_prompt_learning:
        raise ModelNotFound(
            f"the adapter in {adapter!r} adds to the prompt (a {adapted.peft_type} adapter); only "
            "those that change layers, such as LoRA, can be used here"
        )
    # The model itself, in which the layers have been exchanged.
    return adapted.get_base_model()


@contextlib.contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """Keep progress bars, advice and warnings of a loading model to themselves."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        # Some bars know no switch: they go nowhere for a while.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _folder_digest(folder: Path) -> str:
    """Return a short name for the content of a saved model, as :func:`file_digest` for a file."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file() and p.suffix != ".md"):
        digest.update(f"{path.name}\n{file_digest(path)}\n".encode())
    return f"folder:{digest.hexdigest()[:20]}"
