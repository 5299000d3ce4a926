"""Classify the rows of a table: label, probability of each class, and what failed and why."""

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from skllm_calib.cli.answers import begin_answers, cells_of, check_out, columns_of, put_out
from skllm_calib.cli.classifier import build_classifier, inner_classifier, load_classifier
from skllm_calib.cli.console import note, remark, say
from skllm_calib.operations.records import file_digest
from skllm_calib.persistence import model_file
from skllm_calib.utils.tables import open_table, text_of


def run(args: SimpleNamespace) -> int:
    """Ask for what is missing, and write the result."""
    check_out(args, args.file)
    table = open_table(args.file, sep=args.sep, encoding=args.encoding)
    table.check(args.text)
    classifier, source = _classifier(args)
    if args.dry_run or args.batch:
        texts = [text_of(cells.get(args.text)) for _, cells in table.records()]
        if args.dry_run:
            usable = [text for text in texts if text and text.strip()]
            say(str(inner_classifier(classifier).estimate_cost(usable)))
            return 0
        if not _is_collected(classifier, texts, args):
            return 0
    partial, steps = begin_answers(classifier, table, source, args)
    if args.out not in (None, "-") or args.on_error == "raise":
        for _ in steps:  # a file is written when all is there, standard output as rows come
            pass
    labels = sorted(str(label) for label in classifier.classes_.tolist())
    ours, counts = columns_of(labels), Counter[str]()

    def cells() -> Iterator[dict[str, Any]]:
        for i in range(table.n_rows):
            while not partial.is_settled(i):
                next(steps)
            one = cells_of(partial[i], labels)
            counts["failed"] += one["failure"] is not None
            if args.threshold is not None:
                passes = one.get("probability", -1) >= args.threshold
                one["action"] = "accept" if passes else "review"
                counts[one["action"]] += 1
            yield one
        for _ in steps:  # to their end, where what failed is listed
            pass

    ours += ["action"] * (args.threshold is not None)
    if wrote := put_out(table, ours, cells(), partial, args):
        remark(args, f"{wrote}{_summary(table.n_rows, counts, args)}")
    return 0


def _classifier(args: SimpleNamespace) -> tuple[Any, list[Any]]:
    """Return the classifier, and what its answers depend on."""
    if args.classifier is not None:
        if args.classes:
            raise ValueError("--classes goes with --model: a calibrated classifier has its own")
        return load_classifier(args), [file_digest(model_file(args.classifier))]
    if not args.classes:
        raise ValueError("--model needs the labels to choose from: --classes a,b,c")
    remark(args, "These probabilities are raw; 'skllm-calib calibrate' calibrates them.")
    names = ("model", "classes", "prompt", "instruction", "answer", "base_url", "signal",
             "order_averaging", "max_off_label")  # fmt: skip
    source = [getattr(args, name) for name in names]
    source += [path and file_digest(path) for path in (args.prompt_file, args.label_texts)]
    return build_classifier(args, args.classes), source


def _is_collected(classifier: Any, texts: list[Any], args: SimpleNamespace) -> bool:
    """Hand in what is in no batch, and tell whether everything has come."""
    inner_classifier(classifier).set_params(on_error="nan")
    status = classifier.submit_batch(texts)
    if not status.is_done:
        failed = f", {status.n_failed:,} failed" * (status.n_failed > 0)
        batches = f" ({', '.join(status.ids)})" * bool(status.ids)
        note(
            f"{status.n_done:,} of {status.n_rows:,} rows are done{failed}, "
            f"{status.n_waiting:,} wait for a batch{batches}. Nothing was written: run the same "
            "command later to collect them."
        )
    return bool(status.is_done)


def _summary(n_rows: int, counts: Counter[str], args: SimpleNamespace) -> str:
    parts = [f"{n_rows:,} rows"]
    if counts["failed"]:
        parts.append(f"{counts['failed']:,} failed")
    if args.threshold is not None:
        parts += [f"{counts['accept']:,} accepted", f"{counts['review']:,} to review"]
    return ", ".join(parts)
