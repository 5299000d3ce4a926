"""Calibrate a language model on some labelled rows of a table, and keep it in a folder."""

from types import SimpleNamespace
from typing import Any

from sklearn.base import clone

from skllm_calib.calibration.calibrated import CalibratedLLMClassifier
from skllm_calib.cli.classifier import build_classifier, set_resume_hint
from skllm_calib.cli.console import remark, say
from skllm_calib.cli.rows import check_known, labelled_rows, table_of
from skllm_calib.evidence.backends.providers import resolve_model
from skllm_calib.operations.prompt_search import candidates, search_prompts
from skllm_calib.operations.records import write_used
from skllm_calib.utils.sampling import draw


def run(args: SimpleNamespace) -> int:
    """Calibrate, save, and show the card."""
    set_resume_hint(args)
    resolve_model(args.model)  # an unknown name is an error before anything else happens
    table = table_of(args)
    rows = labelled_rows(table, args, args.weight)
    classes = args.classes or sorted(set(rows["label"]))
    if len(classes) < 2:
        raise ValueError(
            f"column {args.label!r} holds the one label {classes[0]!r}: there is nothing to tell "
            "apart; name the others with --classes"
        )
    of = f"--classes {','.join(classes)}"
    check_known(table, rows.index, rows["label"], args.label, classes, of)
    drawn = rows.iloc[draw(rows["label"].tolist(), args.n_rows, args.seed)]
    if args.n_rows is not None and len(drawn) < args.n_rows:
        remark(args, f"There are only {len(drawn)} labelled rows; all of them are used.")

    llm = build_classifier(args, classes, n_shots=args.n_shots, seed=args.seed)
    classifier = CalibratedLLMClassifier(llm, method=args.method)
    given = [drawn["text"].tolist(), drawn["label"].tolist()]
    if args.dry_run:
        say(str(classifier.estimate_cost(*given)))
        if args.search:
            remark(args, "With --search, so much for each of the wordings that are tried.")
        return 0
    weighted = {} if args.weight is None else {"sample_weight": drawn["weight"].tolist()}
    if args.search:
        classifier = _search(classifier, given, weighted, args)
    classifier.fit(*given, **weighted)
    for estimator in (classifier.estimator, classifier.estimator_):
        estimator.set_params(verbose="auto", budget=None)
    classifier.save(args.out)
    write_used(args.out, drawn, table)

    say(repr(classifier.calibration_card_))
    say(f"\nSaved to {args.out}")
    if left := len(rows) - len(drawn):
        remark(
            args,
            f"{left:,} labelled rows are left to test it on: skllm-calib evaluate {args.file} "
            f"--text {args.text} --label {args.label} --classifier {args.out}",
        )
    return 0


def _search(
    classifier: CalibratedLLMClassifier, given: list[Any], weighted: Any, args: SimpleNamespace
) -> CalibratedLLMClassifier:
    """Try the wordings on the calibration rows, print how each did, and return the best."""
    own = bool(args.prompt or args.prompt_file or args.instruction)
    tried = candidates(classifier.estimator, own=own, answer=args.answer)
    n = len(given[0])
    remark(args, f"Trying {len(tried)} wordings on {n} rows: up to {len(tried) * n:,} questions.")
    found = search_prompts(classifier, given[0], given[1], tried, **weighted)
    say(f"{found}\n")
    return clone(classifier).set_params(**found.best)  # type: ignore[no-any-return]
