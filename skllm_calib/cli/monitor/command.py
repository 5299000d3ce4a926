"""The commands of ``skllm-calib monitor``."""

from __future__ import annotations

import argparse
from pathlib import Path

from skllm_calib.cli.console import remark, say
from skllm_calib.cli.monitor.rows import MonitorRows, in_words_of_the_file, late_labels
from skllm_calib.cli.monitor.status import code_of, say_raised, show_status
from skllm_calib.cli.nested import Subcommand, add_subcommands
from skllm_calib.operations.monitor import CalibrationMonitor
from skllm_calib.utils.files import write_text

HELP = "watch whether a calibration still holds"

_PARAMETERS = {
    "average_run_length": (float, "mean number of labels until a false alarm, for each detector"),
    "unlabelled_run_length": (float, "the same in rows, for detectors that need no labels"),
    "tolerance": (float, "gap between confidence and accuracy that is no reason for an alarm"),
    "drift": (float, "gap that 'cusum' is to find soonest; above the tolerance"),
    "max_weight": (float, "largest weight of a labelled row to come (that of the reference rows)"),
    "max_pending": (int, "rows that may wait for a label; the oldest are dropped"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands."""
    parser.epilog = (
        "The exit code of update, labels and status is 3 while there is an alarm that 'reset' has "
        "not taken note of, and 0 if all is calm. STATE is a file that the commands keep; one "
        "command at a time may change it."
    )
    add_subcommands(
        parser,
        [
            Subcommand("start", "begin to watch, from held-out rows", _start_arguments, _start),
            Subcommand("update", "take new rows", _update_arguments, _update),
            Subcommand("labels", "take labels that come later", _labels_arguments, _labels),
            Subcommand("status", "show the state and the alarms", _status_arguments, _status),
            Subcommand("reset", "take note of the alarms and watch on", _add_state, _reset),
        ],
    )


def run(args: argparse.Namespace) -> int:
    """Run the command that was asked for."""
    code: int = args.subcommand(args)
    return code


def _add_state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("state", metavar="STATE", help="the file of the monitor, such as m.json")


def _add_file(parser: argparse.ArgumentParser) -> None:
    _add_state(parser)
    parser.add_argument("file", metavar="FILE", help="rows that 'predict' or 'decide' wrote")
    parser.add_argument(
        "--weight",
        metavar="COL",
        help="column with one over the chance with which a row was chosen to be labelled",
    )
    parser.add_argument(
        "--fingerprint", metavar="TEXT", help="what tells the model as served from others"
    )


def _start_arguments(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("--label", metavar="COL", help="column with the true labels, if known")
    usual = CalibrationMonitor().get_params()
    parser.add_argument(
        "--detectors",
        type=_detectors,
        metavar="A,B",
        help=f"detectors to use (default: all of {','.join(usual['detectors'])})",
    )
    for name, (kind, text) in _PARAMETERS.items():
        default = "" if usual[name] is None else f" (default: {usual[name]:,})"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar="X", help=text + default
        )
    parser.add_argument("--force", action="store_true", help="replace a STATE that exists")


def _detectors(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    known = CalibrationMonitor().detectors
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return names


def _start(args: argparse.Namespace) -> int:
    """Learn from held-out rows what calm looks like, and begin to watch.

    The rows must not have calibrated the classifier. Their labels are not needed; with them, a
    calibration that is off from the start is warned of. After a recalibration, start anew with
    --force.
    """
    if Path(args.state).exists() and not args.force:
        raise ValueError(
            f"{args.state!r} exists already: name another file, or pass --force to begin anew and "
            "lose what it has seen"
        )
    given = {name: getattr(args, name) for name in ("detectors", *_PARAMETERS)}
    monitor = CalibrationMonitor(**{k: v for k, v in given.items() if v is not None})
    rows = MonitorRows.of(args, labelled=True)
    _say_failed(rows, args)
    with in_words_of_the_file(rows.numbers):
        monitor.fit(
            rows.y, rows.proba, rows.weight, classes=rows.labels, fingerprint=args.fingerprint
        )
    Path(args.state).parent.mkdir(parents=True, exist_ok=True)
    monitor.save(args.state)
    reference = monitor.summary()["reference"]
    accuracy = reference["accuracy"]
    right = "" if accuracy is None else f", of which {accuracy:.1%} are right"
    say(
        f"Watching from {len(rows.numbers):,} rows with a mean confidence of "
        f"{reference['confidence']:.1%}{right}. Kept in {args.state}"
    )
    return 0


def _update_arguments(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument(
        "--id", metavar="COL", help="column that tells rows apart, for labels that come later"
    )
    parser.add_argument(
        "--label",
        metavar="COL",
        help="column with the true labels, where they are known; not what the model predicted",
    )


def _update(args: argparse.Namespace) -> int:
    """Take new rows, in the order in which they were classified.

    Each row is to be given once: what comes twice counts twice. Rows that failed are left out.
    Exit code 3: there is an alarm.
    """
    kept = _Kept(args.state)
    rows = MonitorRows.of(args)
    proba, y = rows.for_monitor(kept.monitor, args.file)
    with in_words_of_the_file(rows.numbers):
        raised = kept.monitor.update(
            y, proba, rows.weight, ids=rows.ids, fingerprint=args.fingerprint
        )
    kept.save()
    _say_failed(rows, args)
    say_raised(kept.monitor, raised)
    return code_of(kept.monitor)


def _labels_arguments(parser: argparse.ArgumentParser) -> None:
    _add_state(parser)
    parser.add_argument("file", metavar="FILE", help="rows with an id and a label")
    parser.add_argument(
        "--id", required=True, metavar="COL", help="column with the ids given to 'update --id'"
    )
    parser.add_argument("--label", required=True, metavar="COL", help="column with the true labels")
    parser.add_argument(
        "--weight", metavar="COL", help="column with weights, in place of those of the rows"
    )
    parser.add_argument(
        "--ignore-unknown",
        action="store_true",
        help="pass over ids that wait for no label, such as those labelled before",
    )


def _labels(args: argparse.Namespace) -> int:
    """Take labels of rows that came with 'update --id', in the order in which they arrived.

    Rows without a label are passed over. Exit code 3: there is an alarm.
    """
    kept = _Kept(args.state)
    numbers, ids, y, weight = late_labels(args, kept.monitor)
    before = kept.monitor.n_labels_
    with in_words_of_the_file(numbers):
        raised = kept.monitor.add_labels(
            ids, y, weight, unknown="ignore" if args.ignore_unknown else "raise"
        )
    kept.save()
    taken = kept.monitor.n_labels_ - before
    if taken < len(ids):
        remark(args, f"Passed over {len(ids) - taken:,} of {len(ids):,} labels.")
    say_raised(kept.monitor, raised)
    return code_of(kept.monitor)


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    _add_state(parser)
    parser.add_argument("--json", metavar="FILE", help="write the state as JSON; - for stdout")
    parser.add_argument(
        "--prometheus",
        metavar="FILE",
        help="write it in the text format of Prometheus; - for stdout",
    )
    parser.add_argument(
        "--prometheus-label",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a label of every sample; can be repeated",
    )


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def _status(args: argparse.Namespace) -> int:
    """Show the state and the alarms. Exit code 3: there is an alarm."""
    monitor = _Kept(args.state).monitor
    show_status(monitor, args)
    return code_of(monitor)


def _reset(args: argparse.Namespace) -> int:
    """Take note of the alarms, and watch on with the same reference.

    After a recalibration the probabilities are others: use 'start --force' then.
    """
    kept = _Kept(args.state)
    n = len(kept.monitor.alarms_)
    kept.monitor.reset()
    kept.save()
    say(f"Took note of {n} alarm(s). Status: {kept.monitor.status}")
    return 0


def _say_failed(rows: MonitorRows, args: argparse.Namespace) -> None:
    if rows.n_failed:
        remark(args, f"Left out {rows.n_failed:,} rows that failed.")


class _Kept:
    """The monitor in a file, which is replaced as a whole or not at all."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise ValueError(f"there is no monitor at {path!r}: 'monitor start' makes one")
        self._found = self._path.read_bytes()
        try:
            self.monitor = CalibrationMonitor.from_json(self._found.decode())
        except ValueError as e:
            raise ValueError(f"{path!r} cannot be used: {e}") from e
        except (KeyError, TypeError) as e:
            raise ValueError(f"{path!r} is the state of a monitor, but damaged ({e!r})") from e

    def save(self) -> None:
        if self._path.read_bytes() != self._found:  # another job would lose its rows
            raise ValueError(
                f"{str(self._path)!r} was changed by another command meanwhile: nothing was saved, "
                "run this one again"
            )
        write_text(self._path, self.monitor.to_json())
