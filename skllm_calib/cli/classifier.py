"""The classifier that the arguments describe, or the one in a folder."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.cli.console import progress_wanted
from skllm_calib.evidence.backends.base import BaseBackend
from skllm_calib.evidence.backends.openai.backend import OpenAIBackend
from skllm_calib.evidence.backends.providers import resolve_model
from skllm_calib.evidence.classifier import LLMClassifier
from skllm_calib.evidence.money.budget import Budget
from skllm_calib.evidence.prompts import Prompt

_PACE = {  # options, and parameters of backends
    "concurrency": "max_concurrency",
    "requests_per_minute": "requests_per_minute",
    "tokens_per_minute": "tokens_per_minute",
}
AGAIN = "run the same command again and only the rest is asked."


def cache_of(args: SimpleNamespace) -> str | None:
    """Return the `cache` parameter of an estimator."""
    if args.cache is None:
        return "default"
    return None if args.cache == "none" else args.cache


def set_resume_hint(args: SimpleNamespace) -> None:
    """Say what is kept, for those who stop the command."""
    args.how_to_resume = "Nothing was kept, because of --cache none."
    if cache_of(args) is not None:
        args.how_to_resume = f"Replies so far are kept: {AGAIN}"


def given_parameters(estimator: BaseEstimator, args: SimpleNamespace) -> dict[str, Any]:
    """Return the parameters of an estimator that were given as options."""
    given = {name: getattr(args, name, None) for name in estimator.get_params(deep=False)}
    return {name: value for name, value in given.items() if value is not None}


def build_classifier(
    args: SimpleNamespace, classes: list[str], *, n_shots: int = 0, seed: int = 0
) -> LLMClassifier:
    """Return the classifier that the arguments describe, not fitted."""
    texts = args.label_texts
    if texts is not None:
        texts = read_object("--label-texts", texts, dict, "an object of label to wording")
    signal = args.signal
    return LLMClassifier(
        _model(args),
        classes=classes,
        label_texts=texts,
        prompt=_prompt(args),
        signal=signal[0] if len(signal) == 1 else signal,
        n_shots=n_shots,
        order_averaging=args.order_averaging,
        max_off_label=args.max_off_label,
        on_error=args.on_error,
        cache=cache_of(args),
        random_state=seed,
        verbose=progress_wanted(args),
        budget=_budget(args),
    )


def load_classifier(args: SimpleNamespace) -> CalibratedLLMClassifier:
    """Read a saved classifier, set up for this run's cache and progress bar."""
    classifier = CalibratedLLMClassifier.load(args.classifier)
    inner = inner_classifier(classifier)
    if not isinstance(inner, LLMClassifier):
        raise ValueError(
            f"{args.classifier!r} holds a calibrated {type(inner).__name__}: this command is for "
            "language models"
        )
    inner.set_params(cache=cache_of(args), verbose=progress_wanted(args), on_error="nan")
    inner.set_params(model=_at_pace(inner.model, args), budget=_budget(args))
    return classifier


def inner_classifier(classifier: Any) -> Any:
    """Return the classifier that asks."""
    inner = getattr(classifier, "estimator_", classifier)
    return inner.estimator if isinstance(inner, FrozenEstimator) else inner


def read_object(option: str, path: str, kind: type[Any], what: str) -> Any:
    """Read a JSON file that holds a list or an object."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{option} {path}: not JSON ({e})") from e
    if not isinstance(found, kind):
        raise ValueError(f"{option} {path}: holds a {type(found).__name__}, where {what} is needed")
    return found


def _budget(args: SimpleNamespace) -> Budget | None:
    given = getattr(args, "budget", None)
    return None if given is None else Budget(**given)


def _prompt(args: SimpleNamespace) -> Prompt:
    template, file = args.prompt, args.prompt_file
    if file is not None and file.lower().endswith(".json"):
        template = read_object("--prompt-file", file, list, "a list of messages")
    elif file is not None:
        template = Path(file).read_text(encoding="utf-8-sig").rstrip("\n")
    return Prompt(template, instruction=args.instruction, answer=args.answer)


def _model(args: SimpleNamespace) -> str | BaseBackend | None:
    backend = resolve_model(args.model)  # an unknown name is an error before any row is read
    model: str | BaseBackend = str(args.model)
    if args.base_url is not None or args.api_key_env is not None:
        if not isinstance(backend, OpenAIBackend):
            raise ValueError(
                f"--base-url and --api-key-env go with --model openai:NAME, not {args.model!r}"
            )
        model = OpenAIBackend(backend.model, base_url=args.base_url, api_key_env=args.api_key_env)
    return _at_pace(model, args)


def _at_pace(model: str | BaseBackend | None, args: SimpleNamespace) -> str | BaseBackend | None:
    """Return a model that is asked as often as the options say."""
    given = {name: n for name in _PACE if (n := getattr(args, name, None)) is not None}
    if not given:
        return model
    backend: BaseBackend = clone(resolve_model(model))
    if "max_concurrency" not in backend.get_params(deep=False):
        option, n = next(iter(given.items()))
        raise ValueError(
            f"--{option.replace('_', '-')} {n} is for models behind a server, and "
            f"{type(backend).__name__} is none"
        )
    return backend.set_params(**{_PACE[name]: n for name, n in given.items()})  # type: ignore[no-any-return]
