"""Arguments that several commands share, and the classifier they describe."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from sklearn.frozen import FrozenEstimator

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.cli.console import progress_wanted
from skllm_calib.evidence.backends.base import BaseBackend
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.evidence.backends.providers import resolve_model
from skllm_calib.evidence.classifier import LLMClassifier
from skllm_calib.evidence.prompts import Prompt
from skllm_calib.evidence.signals import SIGNALS, resolve_signal

__all__ = [
    "add_cache",
    "add_evidence",
    "add_file",
    "add_prompt",
    "add_server",
    "build_classifier",
    "build_prompt",
    "cache_of",
    "class_list",
    "count_or_all",
    "load_classifier",
]


def add_file(parser: argparse.ArgumentParser, *, label: bool) -> None:
    """Declare the file of rows and its columns."""
    parser.add_argument("file", metavar="FILE", help="rows: .csv, .tsv, .jsonl or .parquet")
    parser.add_argument("--text", required=True, metavar="COL", help="column with the texts")
    if label:
        parser.add_argument("--label", required=True, metavar="COL", help="column with the labels")


def add_server(parser: argparse.ArgumentParser) -> None:
    """Declare where a hosted model is found."""
    parser.add_argument(
        "--base-url", metavar="URL", help="address of an OpenAI-compatible server, for openai:NAME"
    )
    parser.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable that holds the key"
    )


def add_prompt(parser: argparse.ArgumentParser) -> None:
    """Declare the wording of the question."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--prompt",
        metavar="TEMPLATE",
        help="the question about one row; {text}, {options} and {hint} are filled in",
    )
    either.add_argument(
        "--prompt-file",
        metavar="F",
        help="a file with the template; .json: a chat, a list of objects with role and content",
    )
    parser.add_argument("--instruction", metavar="TEXT", help="what to do, said before the row")
    parser.add_argument(
        "--answer",
        choices=["auto", "keys", "words"],
        default="auto",
        help="answer with an option letter or with the label's own words (default: what works "
        "best with the model)",
    )
    parser.add_argument(
        "--label-texts",
        metavar="F",
        help="a .json file: an object with the wording of labels in the prompt, by label",
    )


def add_evidence(parser: argparse.ArgumentParser) -> None:
    """Declare what to read from the model."""
    parser.add_argument(
        "--signal",
        type=_signals,
        default="auto",
        metavar="NAME",
        help=f"the evidence to read: auto, {', '.join(SIGNALS)}, or several between commas, which "
        "are pooled (default: %(default)s, the best that the model shows)",
    )
    parser.add_argument(
        "--order-averaging",
        type=int,
        default=1,
        metavar="N",
        help="ask with the options in N orders and take the mean (default: %(default)s)",
    )


def _signals(text: str) -> str | list[str]:
    names = [name.strip() for name in text.split(",")]
    signal = names[0] if len(names) == 1 else names
    if signal != "auto":
        try:
            resolve_signal(signal)
        except ValueError as e:
            raise argparse.ArgumentTypeError(str(e)) from e
    return signal


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Declare where replies are kept."""
    parser.add_argument(
        "--cache",
        metavar="PATH",
        help="file to keep replies in, or 'none' (default: the usual one)",
    )


def count_or_all(text: str) -> int | None:
    """Read a number of rows; None for "all"."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of rows nor 'all'")
    return int(text)


def class_list(text: str) -> list[str]:
    """Read labels between commas; one that holds a comma stands in double quotes."""
    labels = [label.strip() for label in next(csv.reader([text], skipinitialspace=True))]
    if len(labels) < 2 or not all(labels):
        raise argparse.ArgumentTypeError(f"{text!r} must be two labels or more: a,b,c")
    return labels


def cache_of(args: argparse.Namespace) -> str | None:
    """Return the `cache` parameter of an estimator."""
    given: str | None = args.cache
    if given is None:
        return "default"
    return None if given == "none" else given


def build_prompt(args: argparse.Namespace) -> Prompt:
    """Return the prompt that the arguments describe."""
    template = args.prompt
    if args.prompt_file is not None:
        if args.prompt_file.lower().endswith(".json"):
            template = _read_json(args.prompt_file, "--prompt-file", list)
        else:
            template = Path(args.prompt_file).read_text(encoding="utf-8-sig").rstrip("\n")
    return Prompt(template, instruction=args.instruction, answer=args.answer)


def build_classifier(
    args: argparse.Namespace, classes: list[str], *, n_shots: int = 0, seed: int = 0
) -> LLMClassifier:
    """Return the classifier that the arguments describe, not fitted."""
    texts = None
    if args.label_texts is not None:
        texts = _read_json(args.label_texts, "--label-texts", dict)
    return LLMClassifier(
        _build_model(args),
        classes=classes,
        label_texts=texts,
        prompt=build_prompt(args),
        signal=args.signal,
        n_shots=n_shots,
        order_averaging=args.order_averaging,
        on_error=args.on_error,
        cache=cache_of(args),
        random_state=seed,
        verbose=progress_wanted(args),
    )


def load_classifier(args: argparse.Namespace) -> CalibratedLLMClassifier:
    """Read a saved classifier, set up for this run's cache and progress bar."""
    classifier = CalibratedLLMClassifier.load(args.classifier)
    inner = classifier.estimator_
    if isinstance(inner, FrozenEstimator):
        inner = inner.estimator
    if not isinstance(inner, LLMClassifier):
        raise ValueError(
            f"{args.classifier!r} holds a calibrated {type(inner).__name__}: this command is for "
            "language models"
        )
    inner.set_params(cache=cache_of(args), verbose=progress_wanted(args), on_error="nan")
    return classifier


def _read_json(path: str, option: str, kind: type[Any]) -> Any:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except ValueError as e:
        raise ValueError(f"{option} {path}: not JSON ({e})") from e
    if not isinstance(found, kind):
        raise ValueError(
            f"{option} {path}: holds a {type(found).__name__}, where "
            + ("a list of messages" if kind is list else "an object of label to wording")
            + " is needed"
        )
    return found


def _build_model(args: argparse.Namespace) -> str | BaseBackend:
    model: str = args.model
    backend = resolve_model(model)  # an unknown name is an error before any row is read
    if args.base_url is None and args.api_key_env is None:
        return model
    if not isinstance(backend, OpenAIBackend):
        raise ValueError(f"--base-url and --api-key-env go with --model openai:NAME, not {model!r}")
    return OpenAIBackend(backend.model, base_url=args.base_url, api_key_env=args.api_key_env)
