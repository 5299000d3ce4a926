"""Keep rows for people to label, and see what their labels say about the accepted rows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from skllm_calib.cli.console import figures_only, listed, note, remark, say
from skllm_calib.cli.rows import by_label, check_same, leave_out, table_of, texts_of
from skllm_calib.exceptions import BadLines
from skllm_calib.operations.predictions import (
    Probabilities,
    own_cells,
    own_column,
    read_ids,
    read_probabilities,
)
from skllm_calib.operations.queue import ReviewQueue
from skllm_calib.operations.queue.rows import ACTIONS, Classes, check_row
from skllm_calib.utils.layout import wrapped
from skllm_calib.utils.tables import Table, check_format, label_of, unpaired, write_table


def _open(args: SimpleNamespace) -> ReviewQueue:
    """Open a queue that exists: a typing error must not make one."""
    path = Path(args.queue).expanduser()
    if not path.is_file():
        raise ValueError(f"there is no queue at {args.queue!r}: 'skllm-calib queue add' makes one")
    if not path.stat().st_size:
        raise ValueError(f"{args.queue!r} is empty: add rows with 'skllm-calib queue add'")
    return ReviewQueue(args.queue)


# -- add -------------------------------------------------------------------------------------------


def add(args: SimpleNamespace) -> int:
    """Add the rows of a table, checked in full before the queue is touched."""
    table = table_of(args)
    found = read_probabilities(table)
    path = Path(args.queue).expanduser()
    exists = path.is_file() and path.stat().st_size > 0
    known: dict[str | None, Any] = {label: label for label in found.labels}
    if exists:
        known = by_label(ReviewQueue(args.queue).classes)  # integers, perhaps, or in another order
        check_same(args.file, found.labels, known, f"the queue at {args.queue!r} is about")
    rows = _rows(table, found, known, args)
    if not exists:
        ReviewQueue(args.queue, classes=found.labels)
    added = ReviewQueue(args.queue, audit_share=args.audit_share).add(rows, replace=args.replace)
    say(
        f"{added.n_new:,} new rows, {added.n_asked:,} of them for a person; "
        f"{added.n_unchanged:,} were there already, {added.n_replaced:,} were replaced"
    )
    return 0


def _rows(
    table: Table, found: Probabilities, known: dict[str | None, Any], args: SimpleNamespace
) -> list[dict[str, Any]]:
    texts = texts_of(table, args.text)
    used = leave_out(table, args, range(len(texts)), texts, "text")
    if args.number_rows is not None:
        ids = [f"{args.number_rows}-{i + 1}" for i in used]
    elif args.id is None and "id" not in table.columns:
        raise ValueError(
            "the file has no column 'id': name the column that identifies each row with --id COL, "
            "or number the rows with --number-rows PREFIX, another one for each file"
        )
    else:
        ids = read_ids(table, args.id or "id", used)
    actions, reasons = _actions(table, args, found)
    proposed = own_cells(table, "label", label_of)
    evidence = {name: table.column(name) for name in args.evidence}
    classes = Classes(list(known.values()))
    rows = []
    for name, i in zip(ids, used, strict=True):
        failed = actions[i] is None
        proba = dict(zip(map(known.get, found.labels), found.matrix[i].tolist(), strict=True))
        row = {
            "id": name,
            "text": texts[i],
            "proba": None if failed else proba,
            "action": "review" if failed else actions[i],
            "label": None if failed else known.get(proposed[i], proposed[i]),
            "reason": reasons[i],
            "evidence": {name: cells[i] for name, cells in evidence.items()} or None,
        }
        try:
            if unpaired(json.dumps(row, ensure_ascii=False, default=str)):
                raise ValueError("a cell contains an unpaired surrogate")
            check_row(row, classes)
        except ValueError as e:
            raise ValueError(f"{table.name(i)}, id {name!r}: {e}") from None
        rows.append(row)
    return rows


def _actions(
    table: Table, args: SimpleNamespace, found: Probabilities
) -> tuple[list[str | None], list[str]]:
    """Return action and reason of each row; the action None means that the model failed."""
    column = own_column(table, "action")
    if not args.review_all and column is None:
        raise ValueError(
            "the file has no column 'action' that says which rows go to a person: make it with "
            "'skllm-calib decide' or 'predict --threshold T', or pass --review-all"
        )
    meaning: dict[Any, str] = {action: action for action in ACTIONS} | dict(args.take_as)
    for own, action in args.take_as:
        if action not in ACTIONS:
            raise ValueError(f"--take-as {own} {action}: it must be one of {', '.join(ACTIONS)}")
    given, why, failure = (own_cells(table, name) for name in ("action", "reason", "failure"))
    actions: list[str | None] = [None] * len(table.rows)
    reasons = [f"the model failed: {text or 'no reason is given'}" for text in failure]
    for i in found.answered():
        actions[i] = "review" if args.review_all else meaning.get(given[i])
        reasons[i] = "" if args.review_all else why[i] or ""
        if actions[i] is None:
            raise ValueError(
                f"{table.name(i)} has {given[i] or ''!r} in column {column!r}: it must be one of "
                f"{', '.join(ACTIONS)}, or be explained with --take-as"
            )
    return actions, reasons


# -- status ----------------------------------------------------------------------------------------


def status(args: SimpleNamespace) -> int:
    """Print the figures, or write them where ``--json`` says."""
    queue = _open(args)
    done, error, disputed = queue.statistics(), queue.accepted_error(), queue.disputed()
    figures = {
        "classes": queue.classes.tolist(),
        **done.to_dict(),
        "accepted_error": error.to_dict(),
        "disputed": [{"id": row["id"], "labels": row["labels"]} for row in disputed],
    }
    if figures_only(args, figures):
        return 0
    say(str(done))
    if disputed:
        say("\nDisputed, until they agree or somebody says 'queue label ... --final':")
        said = [[f"{who} says {y}" for who, y in row["labels"].items()] for row in disputed]
        lines = [f"{row['id']}: {', '.join(one)}" for row, one in zip(disputed, said, strict=True)]
        say(listed(lines, "; --json has them all"))
    if error.n_accepted:
        say("\n" + wrapped(str(error)))
    return 0


# -- labels ----------------------------------------------------------------------------------------


def serve(args: SimpleNamespace) -> int:
    """Serve the page until Ctrl-C."""
    queue = _open(args)
    try:
        server = queue.server(args.port or 0)
    except OSError as e:
        raise ValueError(
            f"port {args.port} cannot be used ({e.strerror}): take another with --port N, or leave "
            "it out for a free one"
        ) from e
    say(server.url)
    remark(args, "Open this address in a browser. Anyone who has it can label rows. Ctrl-C stops.")
    server.serve_forever()
    remark(args, f"Stopped. {queue.statistics().n_waiting:,} rows wait; all labels are kept.")
    return 0


def hand_out(args: SimpleNamespace) -> int:
    """Write rows that wait to a table, whose column 'label' a reviewer fills in."""
    queue = _open(args)
    check_format(args.out)
    if args.out != "-" and Path(args.out).exists() and not args.force:
        raise ValueError(
            f"{args.out!r} exists already, and may hold labels: name another file, or pass --force"
        )
    if not queue.statistics().n_waiting:
        note("No row waits for a person: nothing was written.")
        return 0
    n = queue.write_waiting(args.out, args.n, order=args.order)
    names = ", ".join(str(label) for label in queue.classes.tolist())
    show = note if args.out == "-" else say
    show(f"Wrote {n:,} rows to {args.out}; the column 'label' takes one of {names}")
    return 0


def take_in(args: SimpleNamespace) -> int:
    """Take labels from a table; list the rows that cannot be used, and keep the others."""
    queue = _open(args)
    table = table_of(args)
    known = by_label(queue.classes)
    ids, labels = table.labels("id"), table.labels("label")
    reviewers = table.labels("reviewer") if "reviewer" in table.columns else [None] * len(ids)
    lines = [
        {"id": name, "label": known.get(label, label), "reviewer": who or args.reviewer}
        for name, label, who in zip(ids, labels, reviewers, strict=True)
    ]
    try:
        n = queue.read_labels(lines)
    except BadLines as e:
        if args.debug:
            raise
        note(f"skllm-calib: error: {len(e.errors)} row(s) of {args.file} cannot be used:")
        nobody = "no reviewer: fill in the column 'reviewer', or pass --reviewer NAME"
        wrong = [
            f"{table.name(number - 1)}: {what if lines[number - 1]['reviewer'] else nobody}"
            for number, what in e.errors
        ]
        note(listed(wrong))
        note(f"{e.n_good} other label(s) are kept. Correct the file and take it in again.")
        return 1
    say(f"{n:,} new labels; {queue.statistics().n_waiting:,} rows wait")
    return 0


def label(args: SimpleNamespace) -> int:
    """Keep what a reviewer says of one row."""
    queue = _open(args)
    meant = by_label(queue.classes).get(label_of(args.label), args.label)
    name, how = args.id, {"reviewer": args.reviewer, "final": args.final}
    try:
        new = queue.add_label(name, meant, **how)
    except ValueError:
        if (name := label_of(args.id) or "") == args.id:
            raise
        new = queue.add_label(name, meant, **how)  # an id as a table has it
    say(f"{name} is {meant}, says {args.reviewer}{'' if new else ', as before'}")
    return 0


def undo(args: SimpleNamespace) -> int:
    """Take back the last label of a reviewer."""
    taken_back = _open(args).undo(args.reviewer)
    if taken_back is None:
        raise ValueError(f"there is no label of {args.reviewer!r} to take back")
    say(f"Took back that {taken_back[0]} is {taken_back[1]}")
    return 0


def export(args: SimpleNamespace) -> int:
    """Write the rows with a label, to calibrate with."""
    queue = _open(args)
    check_format(args.out)
    found = queue.export()
    if not found.ids:
        raise ValueError(f"no row of the queue at {args.queue!r} has a label yet")
    write_table(found.to_table(queue.classes), args.out)
    show = note if args.out == "-" else say
    show(f"Wrote {len(found.ids):,} rows to {args.out}")
    if waiting := queue.statistics().n_waiting:
        remark(args, f"{waiting:,} rows still wait: until they are done, the weights lack theirs.")
    return 0
