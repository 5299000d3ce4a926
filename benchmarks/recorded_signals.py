"""Signals and their fusion on recorded outputs of real language models.

Four collections of answers that others have published: labels with stated confidences asked ten
times, stated confidence and perplexity of six models, the logits of 25 models under three prompts,
and one model under ten prompts. Each signal and each pool of them is measured as it is and after
calibration with 200 labels, drawn 20 times at random, on the rows that are left. Figures are means
(standard deviations over the draws). The recordings are not part of the repository; give their
folder: ``python benchmarks/recorded_signals.py FOLDER [SOURCE ...]``, with ``--quick`` for three
draws and a few models. Needs the ``tables`` extra; takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from skllm_calib.calibration.ensemble.pooling import fit_weights, pool, split_uncertainty
from skllm_calib.calibrators import VectorScaling
from skllm_calib.log_proba.folds import stratified_folds
from skllm_calib.log_proba.numerics import floor_and_normalise
from skllm_calib.metrics import debiased_calibration_error

Floats = NDArray[np.float64]
RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data" / "recorded"
N_LABELS = 200
COLUMNS = ("accuracy", "log-loss", "dECE", "confidence - accuracy", "AUROC")


@dataclass(frozen=True)
class Way:
    """One way to make a probability: a signal by itself, or several, pooled."""

    name: str
    members: tuple[str, ...]
    pooling: str = "log"
    fitted: bool = False
    calibrate: str = "pool"  # or "each" member before the pool, or "both"


def pools(members: Iterable[str], prefix: str = "", *, each: bool = False) -> list[Way]:
    members = tuple(members)
    found = [
        Way(f"{prefix}log pool", members),
        Way(f"{prefix}log pool, fitted weights", members, fitted=True),
        Way(f"{prefix}linear pool", members, "linear"),
        Way(f"{prefix}linear pool, fitted weights", members, "linear", fitted=True),
    ]
    if each:
        name = f"{prefix}each calibrated, then their mean"
        found += [
            Way(name, members, "linear", calibrate="each"),
            Way(f"{name}, calibrated again", members, "linear", calibrate="both"),
        ]
    return found


def alone(members: Iterable[str]) -> list[Way]:
    return [Way(name, (name,)) for name in members]


# -- measuring -----------------------------------------------------------------------------------


def figures(log_proba: Floats, y: NDArray[np.intp]) -> list[float]:
    proba = np.exp(log_proba)
    proba /= proba.sum(axis=1, keepdims=True)
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == y
    error = debiased_calibration_error(
        y, proba, n_bins=10, strategy="quantile", norm="l1", labels=np.arange(proba.shape[1])
    )
    return [
        right.mean(),
        -log_proba[np.arange(len(y)), y].mean(),
        error,
        confidence.mean() - right.mean(),
        roc_auc_score(right, confidence),
    ]


def calibrated(scores: Floats, y: NDArray[np.intp], fit: NDArray[np.intp], seen: Floats) -> Floats:
    """Calibrate all rows by those of `fit`, whose scores to learn from are `seen`."""
    calibrator = VectorScaling().fit(seen, y[fit], classes=np.arange(scores.shape[1]))
    return np.asarray(calibrator.predict_log_proba(scores))


def before_and_after(
    way: Way, signals: Mapping[str, Floats], y: NDArray[np.intp], fit: NDArray[np.intp]
) -> tuple[Floats, Floats]:
    """Return what a way says of all rows, raw and calibrated, as `CalibratedLLMClassifier` does."""
    scores = np.stack([signals[name] for name in way.members])
    equal = np.full(len(scores), 1 / len(scores))
    if way.calibrate != "pool":
        scores = np.stack([calibrated(s, y, fit, s[fit]) for s in scores])
        mean = pool(scores, equal, way.pooling)
        return mean, calibrated(mean, y, fit, mean[fit]) if way.calibrate == "both" else mean

    def weights(rows: NDArray[np.intp]) -> Floats:
        if not way.fitted:
            return equal
        return fit_weights(scores[:, rows], y[rows], np.ones(len(rows)), way.pooling)

    raw = pool(scores, weights(fit), way.pooling)
    seen = raw[fit]
    if way.fitted:  # no row teaches the calibrator by weights that have seen it
        for train, test in stratified_folds(y[fit]):
            seen[test] = pool(scores[:, fit[test]], weights(fit[train]), way.pooling)
    return raw, calibrated(raw, y, fit, seen)


def measure(
    signals: Mapping[str, Floats],
    y: NDArray[np.intp],
    ways: list[Way],
    n_draws: int,
    groups: NDArray[np.intp] | None = None,
) -> dict[str, Floats]:
    """Return for each way the figures (draw, raw or calibrated, column)."""
    groups = np.arange(len(y)) if groups is None else groups
    n_groups = groups.max() + 1
    n_drawn = round(N_LABELS * n_groups / len(y))  # whole groups, so that none is on both sides
    found: dict[str, list[Any]] = {way.name: [] for way in ways}
    for draw in range(n_draws):
        drawn = np.random.default_rng(draw).permutation(n_groups)[:n_drawn]
        to_fit = np.isin(groups, drawn)
        fit, test = np.flatnonzero(to_fit), np.flatnonzero(~to_fit)
        for way in ways:
            both = before_and_after(way, signals, y, fit)
            found[way.name].append([figures(scores[test], y[test]) for scores in both])
    return {name: np.array(values) for name, values in found.items()}


def average(results: list[dict[str, Floats]]) -> dict[str, Floats]:
    """Average over models, draw by draw."""
    return {name: np.mean([r[name] for r in results], axis=0) for name in results[0]}


# -- showing -------------------------------------------------------------------------------------


def spread(values: Floats, digits: int = 3, sign: str = "") -> str:
    return f"{values.mean():{sign}.{digits}f} ({values.std(ddof=1):.{digits}f})"


def show(results: Mapping[str, Floats], ways: list[Way], others: list[dict[str, Floats]]) -> None:
    """Print the table; `others` are the results by model that `results` is the average of."""
    loss = COLUMNS.index("log-loss")
    singles = [way.name for way in ways if len(way.members) == 1]
    best = min(singles, key=lambda name: results[name][:, 1, loss].mean())
    better = f"; of {len(others)} models below their best" if len(others) > 1 else ""
    print(
        "| | accuracy | log-loss, raw | calibrated | dECE, raw | calibrated "
        f"| confidence - accuracy | AUROC | log-loss less {best}{better} |\n" + "|---" * 9 + "|"
    )
    for way in ways:
        raw, after = results[way.name][:, 0], results[way.name][:, 1]
        gap = spread(after[:, loss] - results[best][:, 1, loss], 4, "+")
        if len(others) > 1:
            # Against the best signal of each model, chosen by the very figures it is judged by.
            least = [min(r[name][:, 1, loss].mean() for name in singles) for r in others]
            wins = sum(
                r[way.name][:, 1, loss].mean() < s for r, s in zip(others, least, strict=True)
            )
            gap += f"; {wins}"
        print(
            f"| {way.name} | {after[:, 0].mean():.3f} | {raw[:, 1].mean():.3f} "
            f"| {spread(after[:, 1])} | {100 * raw[:, 2].mean():.1f} "
            f"| {spread(100 * after[:, 2], 1)} | {100 * after[:, 3].mean():+.1f} "
            f"| {after[:, 4].mean():.3f} | {'' if way.name == best else gap} |"
        )
    print(flush=True)


def report(
    title: str,
    ways: list[Way],
    worlds: Mapping[str, tuple[Mapping[str, Floats], NDArray[np.intp]]],
    n_draws: int,
    groups: NDArray[np.intp] | None = None,
    *,
    by_model: bool = False,
) -> None:
    """Measure the same ways on one or several models and print a table of their average."""
    found = []
    for model, (signals, y) in worlds.items():
        found.append(measure(signals, y, ways, n_draws, groups))
        if by_model:
            print(f"**{model}** ({len(y)} rows)\n")
            show(found[-1], ways, found[-1:])
    n_rows = sorted({len(y) for _, y in worlds.values()})
    span = f"{n_rows[0]} rows" if len(n_rows) == 1 else f"{n_rows[0]} to {n_rows[-1]} rows"
    print(f"**{title}** ({span})\n")
    show(average(found), ways, found)


# -- signals -------------------------------------------------------------------------------------


def stated(codes: NDArray[np.intp], confidence: Floats, n_classes: int) -> Floats:
    """Return the log-probabilities of a label and its confidence; the others share the rest."""
    proba = np.repeat((1 - confidence[:, None]) / (n_classes - 1), n_classes, axis=1)
    proba[np.arange(len(codes)), codes] = confidence
    return floor_and_normalise(np.log(proba + 0.005))  # a stated 1 is no certainty


def votes(codes: NDArray[np.intp], worth: Floats, n_classes: int) -> Floats:
    """Return the log-probabilities of votes (row, run), with half a vote for every label."""
    counts = np.full((len(codes), n_classes), 0.5)
    np.add.at(counts, (np.arange(len(codes))[:, None], codes), worth)
    return floor_and_normalise(np.log(counts))


def deductive_coding(folder: Path, n_draws: int, quick: bool) -> None:
    data = pd.read_parquet(folder / "deductive_coding_3llms_10runs.parquet")
    data["theme"] = data.pred_theme.str.removeprefix("THEME: ")
    themes = sorted(data.gold_theme.unique())
    whole = data.groupby(["paper_id", "level"]).theme.transform(lambda t: t.isin(themes).all())
    data = data[whole].sort_values(["paper_id", "level", "run"])
    print(
        "Signals: a theme of six with a stated confidence (of the finer code), 10 runs at "
        f"temperature 0; no log-probabilities. {data.paper_id.nunique()} claims under five amounts "
        "of context; too few by themselves, so the contexts are put together and whole claims are "
        "drawn, about 40 of them with 200 rows, which leaves some 360 dependent rows to test on.\n"
    )
    worlds, together = {}, {}
    for model, part in data.groupby("model"):
        codes = np.searchsorted(themes, part.theme).reshape(-1, 10)
        said = part.confidence.to_numpy().reshape(-1, 10)
        runs = [stated(codes[:, i], said[:, i], len(themes)) for i in range(10)]
        first = part[part.run == 1]
        y = np.searchsorted(themes, first.gold_theme)
        groups = np.unique(first.paper_id, return_inverse=True)[1]
        signals = {
            "stated, 1 run": runs[0],
            "stated, mean of 10 runs": pool(np.stack(runs), np.full(10, 0.1), "linear"),
            "votes of 10 runs": votes(codes, np.ones_like(said), len(themes)),
            "votes weighted by confidence": votes(codes, said, len(themes)),
        }
        worlds[model] = signals, y
        together |= {f"{model}: {name}": s for name, s in signals.items()}
    singles = alone(signals)
    two = ("stated, 1 run", "votes of 10 runs")
    ways = [*singles, *pools(two, "stated x votes: ")]
    report("Mean of the three models", ways, worlds, n_draws, groups, by_model=True)
    one_run = [name for name in together if name.endswith("1 run")]
    all_votes = [name for name in together if name.endswith("votes of 10 runs")]
    ways = [*alone(one_run), *pools(one_run, "3 stated: ", each=True)]
    ways.append(
        Way("3 stated x 3 votes: log pool, fitted weights", (*one_run, *all_votes), fitted=True)
    )
    report("The three models together", ways, {"all": (together, y)}, n_draws, groups)


def mmlu_pro(folder: Path, n_draws: int, quick: bool) -> None:
    data = pd.read_csv(folder / "mmlupro_6models_2000items.csv").sort_values(["model", "item"])
    letters = list("ABCDEFGHIJ")
    print(
        "Signals: an answer after thinking, its stated confidence and the perplexity of the whole "
        "answer (not for Claude), both evidence for the same of ten options. Rows without an "
        "answer or a confidence are left out. Both signals speak for one answer, so their fusion "
        "cannot change it.\n"
    )
    read = {}
    for model, part in data.groupby("model"):
        known = part.extracted_answer.isin(letters) & part.stated_confidence.notna()
        codes = np.searchsorted(letters, part.extracted_answer.where(known, "A"))
        sure = stated(codes, part.stated_confidence.fillna(0.5).to_numpy(), len(letters))
        signals = {"stated": sure}
        if part.perplexity_confidence.notna().all():
            signals["perplexity"] = stated(
                codes, part.perplexity_confidence.to_numpy(), len(letters)
            )
        read[model] = signals, known.to_numpy()
    y = np.searchsorted(letters, part.correct_answer)
    worlds = {
        model: ({name: s[known] for name, s in signals.items()}, y[known])
        for model, (signals, known) in read.items()
        if len(signals) == 2
    }
    ways = [*alone(["stated", "perplexity"]), *pools(["stated", "perplexity"], each=True)]
    title = "Mean of the five models with both signals"
    report(title, ways, worlds, n_draws, by_model=not quick)

    known = np.logical_and.reduce([known for _, known in read.values()])
    members = {model: signals["stated"][known] for model, (signals, _) in read.items()}
    more = {
        f"{model}, perplexity": signals["perplexity"][known]
        for model, (signals, _) in read.items()
        if len(signals) == 2
    }
    ways = [*alone(members), *pools(members, "6 models: ", each=True)]
    ways.append(
        Way(
            "6 models, stated and perplexity: log pool, fitted weights",
            (*members, *more),
            fitted=True,
        )
    )
    report("Six models together", ways, {"all": (members | more, y[known])}, n_draws)


SMALL = (
    *("Mistral-7B-v0.1", "Yi-6B", "Qwen-7B", "deepseek-llm-7b-base"),
    *("Llama-2-7b-hf", "internlm-7b", "mpt-7b", "falcon-7b"),
)
MIXED = ("Mistral-7B-v0.1", "Yi-34B-Chat", "Llama-2-70b-chat-hf", "falcon-7b-instruct")


def mmlu_10k(folder: Path, n_draws: int, quick: bool) -> None:
    data = pd.read_parquet(folder / "mmlu10k_many_models_logits.parquet")
    data = data[data.variant != "chat_v2"].sort_values("id")
    letters = list("ABCDEF")
    print(
        'Signals: logits of six options (E "I don\'t know" and F "none of the above" are never '
        "right) under the prompts base, shared and task.\n"
    )
    read: dict[str, dict[str, Floats]] = {"base": {}, "chat_v1": {}}
    for (variant, model, prompt), part in data.groupby(["variant", "model", "prompt"]):
        scores = floor_and_normalise(part[[f"logit_{c}" for c in letters]].to_numpy(np.float64))
        read[variant].setdefault(model, {})[prompt] = scores
    y = np.searchsorted(letters, part.label)
    prompts = ["base", "shared", "task"]
    ways = [*alone(prompts), *pools(prompts, each=True)]
    for variant, models in read.items():
        worlds = {model: (signals, y) for model, signals in models.items()}
        chosen = dict(list(worlds.items())[:: 5 if quick else 1])
        title = f"Three prompts: mean of {len(chosen)} {variant.partition('_')[0]} models"
        report(title, ways, chosen, n_draws)
    models = read["base"] | read["chat_v1"]
    for title, names in (
        ("Eight base models of about 7B", SMALL),
        ("One base and three chat models", MIXED),
    ):
        members = {name: models[name]["base"] for name in names}
        ways = [*alone(members), *pools(members, each=True)]
        report(f"{title}, prompt base", ways, {"all": (members, y)}, n_draws)


def llama_13b(folder: Path, n_draws: int, quick: bool) -> None:
    data = pd.read_parquet(folder / "llama13b_mmlu16_10prompts.parquet")
    data = data.sort_values(["prompt", "subject", "item"])
    letters = list("ABCD")
    y = np.searchsorted(letters, data.label[data["prompt"] == 0])
    proba = data[[f"prob_{c}" for c in letters]].to_numpy(np.float64).reshape(10, -1, 4)
    signals = {f"prompt {i}": floor_and_normalise(np.log(p)) for i, p in enumerate(proba)}
    print("Signals: probabilities of four options under ten prompts, each with another example.\n")
    ways = [
        *alone(signals),
        *pools(list(signals)[:3], "3 prompts: ", each=True),
        *pools(signals, "10 prompts: ", each=True),
    ]
    report("LLaMA-13B", ways, {"all": (signals, y)}, n_draws)

    print("AUROC for telling wrong answers of the linear pool (no labels used):\n")
    print(
        "| prompts | 1 - top probability | total | aleatoric | epistemic |\n|---|---|---|---|---|"
    )
    rng = np.random.default_rng(0)
    for n in (1, 3, 10):
        rows = []
        for _ in range(1 if n == 10 else n_draws):
            drawn = np.stack(list(signals.values()))[rng.permutation(10)[:n]]
            equal = np.full(n, 1 / n)
            pooled = pool(drawn, equal, "linear")
            wrong = pooled.argmax(axis=1) != y
            split = split_uncertainty(drawn, equal)
            told = [-pooled.max(axis=1), *split.values()]
            rows.append([roc_auc_score(wrong, t) for t in told])
        cells = [spread(v) if n < 10 else f"{v.mean():.3f}" for v in np.array(rows).T]
        if n == 1:
            cells[-1] = "-"  # one member cannot disagree
        print(f"| {n} | " + " | ".join(cells) + " |")
    print(flush=True)


SOURCES: dict[str, tuple[str, Callable[[Path, int, bool], None]]] = {
    "deductive_coding": ("deductive_coding_3llms_10runs.parquet", deductive_coding),
    "mmlu_pro": ("mmlupro_6models_2000items.csv", mmlu_pro),
    "mmlu_10k": ("mmlu10k_many_models_logits.parquet", mmlu_10k),
    "llama_13b": ("llama13b_mmlu16_10prompts.parquet", llama_13b),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=RECORDED, help="the recordings")
    parser.add_argument("sources", nargs="*", default=[], help="which; default all")
    parser.add_argument("--quick", action="store_true", help="three draws and a few models")
    args = parser.parse_args()
    names = args.sources or list(SOURCES)
    for name in names:
        if name not in SOURCES:
            sys.exit(f"no source {name!r}: choose from {', '.join(SOURCES)}")
        if not (args.folder / SOURCES[name][0]).is_file():
            sys.exit(f"no recordings: {SOURCES[name][0]} is not in {args.folder}")
    for name in names:
        start = time.perf_counter()
        print(f"## {name}\n")
        SOURCES[name][1](args.folder, 3 if args.quick else 20, args.quick)
        print(f"({(time.perf_counter() - start) / 60:.1f} min)\n", flush=True)


if __name__ == "__main__":
    main()
