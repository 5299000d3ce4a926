"""ReviewQueue: rows that wait for a reviewer, on disk, and what their labels say."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.parameters import (
    DEFAULT_CONFIDENCE,
    check_choice,
    check_count,
    check_fraction,
)
from skllm_calib.operations.queue import queries
from skllm_calib.operations.queue.audit import AcceptedError, accepted_error
from skllm_calib.operations.queue.changes import (
    agree_on_classes,
    count_added,
    put_label,
    put_row,
    set_setting,
    setting,
)
from skllm_calib.operations.queue.files import bad_lines, read_lines, write_lines, write_sheet
from skllm_calib.operations.queue.results import Added, LabelledRows, QueueStatistics
from skllm_calib.operations.queue.rows import Classes, Entry, check_row, records
from skllm_calib.operations.queue.schema import SCHEMA
from skllm_calib.operations.queue.server import QueueServer
from skllm_calib.utils.sqlite import SQLiteFile

__all__ = ["ReviewQueue"]

_AUDIT_SHARE = 0.05


class ReviewQueue:
    """A queue of classified rows on disk, of which reviewers label those that need it.

    Rows with the action "review" wait for a reviewer, and so does a random sample of the accepted
    ones: without it, nobody would notice when they become wrong. Labels come back from a file or
    from a page in the browser; labelled rows are exported to calibrate again.

    Parameters
    ----------
    path : str or path-like
        An SQLite file, created if it does not exist. Several processes may use it at once, and what
        a method has saved when it returns survives ``kill -9``. Not for a network file system.
    classes : array-like of shape (n_classes,), default=None
        Sorted classes, strings or integers: needed for a new file, compared with those of an
        existing one.
    audit_share : float in [0, 1], default=None
        Share of the accepted rows to audit. It is kept in the file and applies to rows added from
        now on; every row remembers its own. None leaves it as it is: 0.05 in a new file.

    Raises
    ------
    ValueError
        If the file is not a review queue or was written by a later release, or a parameter does
        not fit.

    See Also
    --------
    skllm_calib.decisions.ReviewPolicy : Decides which rows are accepted.
    CalibrationMonitor : Raises an alarm when the labels no longer fit the probabilities.

    Notes
    -----
    Whether an accepted row is audited depends only on a hash of its id: not on its position, its
    batch, or the other rows. Added twice, or on two machines, it is drawn both times or neither
    time. Ids must not be chosen with the hash in mind.

    Examples
    --------
    >>> import os, tempfile
    >>> from skllm_calib.operations.queue import ReviewQueue
    >>> path = os.path.join(tempfile.mkdtemp(), "review.sqlite")
    >>> queue = ReviewQueue(path, classes=["ham", "spam"])
    >>> queue.add([
    ...     {"id": 1, "text": "Win a prize", "proba": [0.3, 0.7], "action": "review"},
    ...     {"id": 2, "text": "Lunch at noon?", "proba": [0.99, 0.01], "action": "accept"},
    ... ])
    Added(n_new=2, n_unchanged=0, n_replaced=0, n_asked=1)
    >>> [(row["id"], row["label"]) for row in queue.waiting()]
    [('1', 'spam')]
    >>> queue.add_label(1, "ham", reviewer="Ann")
    True
    >>> queue.export().y
    array(['ham'], dtype='<U4')
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        classes: ArrayLike | None = None,
        audit_share: float | None = None,
    ) -> None:
        self._file = SQLiteFile(path, SCHEMA)
        self.path = self._file.path
        if audit_share is not None:
            check_fraction(audit_share, "audit_share", include="both")
        given = None if classes is None else Classes(classes)
        if given is None and not self.path.exists():
            raise InvalidInput(
                f"there is no queue at {str(self.path)!r}: pass classes= to create one", "classes"
            )
        with self._file.writing() as connection:
            self._classes = agree_on_classes(connection, given, str(self.path))
            if audit_share is not None:
                set_setting(connection, "audit_share", float(audit_share))
            elif setting(connection, "audit_share") is None:
                set_setting(connection, "audit_share", _AUDIT_SHARE)

    @property
    def classes(self) -> NDArray[Any]:
        """The sorted classes, to which the columns of the probabilities belong."""
        return self._classes.array

    @property
    def audit_share(self) -> float:
        """Share of the accepted rows that is audited, for rows that are added now."""
        with self._file.reading() as connection:
            return float(setting(connection, "audit_share"))

    def __repr__(self) -> str:
        return f"ReviewQueue({str(self.path)!r})"

    def __reduce__(self) -> tuple[type[ReviewQueue], tuple[str]]:
        return type(self), (str(self.path),)

    # Rows in

    def add(self, rows: Any, *, replace: bool = False) -> Added:
        """Add rows; rows that are already there with the same content change nothing.

        Parameters
        ----------
        rows : iterable of mappings, or DataFrame
            Each has the keys ``id`` (a string or an integer, kept as text), ``text``, ``proba``
            (calibrated, in the order of the classes or as a mapping from labels; None where the
            model failed) and ``action`` ("accept", "review" or "reject"). It may have ``label``
            (the proposed label; without it, the most probable one), ``evidence`` (anything that
            JSON can hold) and ``reason`` (a string).
        replace : bool, default=False
            Replace a row whose id is known and whose content has changed. Its labels are kept,
            unless the text has changed: then they are taken back.

        Returns
        -------
        added : Added
            Numbers of rows.

        Raises
        ------
        ValueError
            If a row cannot be used, or is known with another content. The error knows the row, and
            no row is added.
        """
        entries: list[Entry] = []
        for number, row in enumerate(records(rows)):
            try:
                entries.append(check_row(row, self._classes))
            except InvalidInput as error:
                name = row.get("id") if isinstance(row, Mapping) else None
                raise InvalidInput(
                    f"row {number} (id {name!r}): {error}", error.parameter, number, error.value
                ) from None
        with self._file.writing() as connection:
            share = float(setting(connection, "audit_share"))
            done = [put_row(connection, entry, share, replace) for entry in entries]
        return count_added(done)

    def read_rows(self, path: str | os.PathLike[str], *, replace: bool = False) -> Added:
        """Add rows from a JSONL file: one JSON object per line with the keys that `add` takes.

        Parameters
        ----------
        path : str or path-like
            The file. It may come from `write_rows`; labels in it are not taken.
        replace : bool, default=False
            As for `add`.

        Returns
        -------
        added : Added
            Numbers of rows.

        Raises
        ------
        BadLines
            If some lines cannot be used: it lists them, and the others are kept.
        """
        done: list[tuple[str, bool]] = []
        with self._file.writing() as connection:
            share = float(setting(connection, "audit_share"))
            errors = read_lines(
                path,
                lambda row: done.append(
                    put_row(connection, check_row(row, self._classes), share, replace)
                ),
            )
        if errors:
            raise bad_lines(path, errors, len(done))
        return count_added(done)

    # Rows out

    def waiting(
        self, n: int | None = None, *, order: str = "doubt", exclude: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        """Return the rows that wait for a person's label.

        Parameters
        ----------
        n : int, default=None
            Largest number of rows. None returns all.
        order : {"doubt", "added"}, default="doubt"
            "doubt": the least confident first, with the audit sample mixed in evenly, in an order
            that does not depend on the row, so that its labelled part is a random sample at any
            time. "added": as they were added.
        exclude : collection of str, default=()
            Ids of rows to leave out, such as those that somebody else has open.

        Returns
        -------
        rows : list of dict
            With the keys of `add`; ``proba`` is a dict from label to probability, the largest
            first, and ``audit`` is True for an accepted row that is being checked.
        """
        check_choice(order, "order", ("doubt", "added"))
        if n is not None:
            check_count(n, "n", least=0)
        with self._file.reading() as connection:
            return queries.waiting(connection, self._classes, n, order, exclude)

    def write_rows(self, path: str | os.PathLike[str]) -> int:
        """Write every row with its labels to a JSONL file, and return how many there were.

        Parameters
        ----------
        path : str or path-like
            The file; an existing one is replaced when everything is written.
        """
        with self._file.reading() as connection:
            return write_lines(path, queries.everything(connection, self._classes))

    def write_waiting(
        self, path: str | os.PathLike[str], n: int | None = None, *, order: str = "doubt"
    ) -> int:
        """Write waiting rows to a file for a reviewer to fill in the empty column ``label``.

        Parameters
        ----------
        path : str or path-like
            A ``.jsonl`` or ``.ndjson`` file holds the rows as `waiting` returns them. Any other is
            a table of the kind that its name says (CSV, TSV, JSON, Excel, Parquet; "-" is CSV on
            standard output), in which texts that a spreadsheet would run as a formula get an
            apostrophe in front.
        n, order
            As for `waiting`.

        Returns
        -------
        n : int
            Number of rows written.
        """
        return write_sheet(path, self.waiting(n, order=order))

    def export(self) -> LabelledRows:
        """Return the settled rows, to fit a calibrator on.

        Returns
        -------
        rows : LabelledRows
            Rows that were chosen for review and whose label is settled. Once no row is waiting,
            they represent, with their weights, all accepted and reviewed rows. Rows that were
            rejected, not chosen, or have no probabilities are not among them.
        """
        with self._file.reading() as connection:
            found = queries.settled(connection)
        codes = np.array([code for *_, code in found], dtype=np.int64)
        contents = [json.loads(content) for _, content, _, _ in found]
        return LabelledRows(
            ids=[name for name, *_ in found],
            texts=[content["text"] for content in contents],
            y=self.classes[codes],
            proba=np.array([content["proba"] for content in contents], dtype=np.float64).reshape(
                -1, len(self._classes.values)
            ),
            sample_weight=np.array([1 / share for _, _, share, _ in found], dtype=np.float64),
        )

    # Labels

    def add_label(self, id: str | int, label: Any, *, reviewer: str, final: bool = False) -> bool:
        """Save a reviewer's label of a row; labels of other reviewers stay as they are.

        Parameters
        ----------
        id : str or int
            The row.
        label : str or int
            One of the classes.
        reviewer : str
            Name of the reviewer.
        final : bool, default=False
            Settle a row that reviewers disagree on: only the last final label counts.

        Returns
        -------
        new : bool
            False if the reviewer had given the same label before.

        Raises
        ------
        ValueError
            If the id or the label is not known, or the reviewer is not named.
        """
        with self._file.writing() as connection:
            return put_label(
                connection, self._classes, id=id, label=label, reviewer=reviewer, final=final
            )

    def read_labels(
        self, path: str | os.PathLike[str] | Iterable[Any], *, reviewer: str | None = None
    ) -> int:
        """Take labels from a file, and return how many of them were new.

        Parameters
        ----------
        path : str, path-like, or iterable of dict
            A ``.csv`` file with the columns ``id`` and ``label``, any other as JSONL with these
            keys, or rows with them. A column ``reviewer`` is used where it is filled in. Other
            columns, and lines without a label, are ignored.
        reviewer : str, default=None
            Reviewer of the lines that do not name one.

        Raises
        ------
        BadLines
            If some lines cannot be used: it lists them, and the others are kept.
        """
        done: list[bool] = []

        def use(line: dict[str, Any]) -> None:
            if "id" not in line or "label" not in line:
                raise InvalidInput("it must name id and label", "label" if "id" in line else "id")
            if line["label"] not in (None, ""):
                who = line.get("reviewer") or reviewer
                given = {"id": line["id"], "label": line["label"], "reviewer": who}
                done.append(put_label(connection, self._classes, **given))

        with self._file.writing() as connection:
            errors = read_lines(path, use)
        if errors:
            raise bad_lines(path, errors, len(done))
        return sum(done)

    def undo(self, reviewer: str) -> tuple[str, Any] | None:
        """Take back the last label of a reviewer; the one before it on that row counts again.

        Parameters
        ----------
        reviewer : str
            Whose label.

        Returns
        -------
        taken_back : tuple of (id, label), or None
            None if there is nothing left to undo.
        """
        with self._file.writing() as connection:
            last = queries.last_label(connection, reviewer.strip())
            if last is None:
                return None
            connection.execute("UPDATE labels SET undone = 1 WHERE number = ?", last[:1])
        return last[1], self._classes.values[last[2]]

    def last_label(self, reviewer: str) -> tuple[str, Any] | None:
        """Return the label that `undo` would take back.

        Parameters
        ----------
        reviewer : str
            Whose label.

        Returns
        -------
        last : tuple of (id, label), or None
            None when there is no label of this reviewer.
        """
        with self._file.reading() as connection:
            last = queries.last_label(connection, reviewer.strip())
        return None if last is None else (last[1], self._classes.values[last[2]])

    def labels(self) -> list[dict[str, Any]]:
        """Return the latest label of every reviewer for every row, the oldest first.

        Returns
        -------
        labels : list of dict
            With ``id``, ``label``, ``reviewer``, ``final`` and ``created`` (seconds since 1970).
        """
        with self._file.reading() as connection:
            return queries.labels(connection, self._classes)

    def disputed(self) -> list[dict[str, Any]]:
        """Return the rows that reviewers disagree on.

        Returns
        -------
        rows : list of dict
            As from `waiting`, and ``labels``: a dict from reviewer to label. A row leaves the list
            when they agree, or by a label with ``final=True``.
        """
        with self._file.reading() as connection:
            return queries.disputed(connection, self._classes)

    # What the labels say

    def accepted_error(self, *, confidence: float = DEFAULT_CONFIDENCE) -> AcceptedError:
        """Estimate the share of accepted rows that are wrong, from the audited ones.

        Parameters
        ----------
        confidence : float in (0, 1), default=0.95
            Confidence of the interval.

        Returns
        -------
        error : AcceptedError
            Estimate and exact interval; ``str(error)`` is a sentence.

        Notes
        -----
        Only the draw of the audited rows is random: among the rows of one `audit_share`, the number
        of wrong ones in the sample is hypergeometric. The estimate weights each share by its number
        of accepted rows and is unbiased. The interval inverts the hypergeometric tests, and divides
        the error probability among several shares, so its coverage is at least its confidence,
        even if no error was seen. Shares without a label count as anything from none to all wrong.

        If only part of the sample is labelled, this holds as long as nobody chose the rows: take
        them in the order of `waiting`. Labels of accepted rows outside the sample do not count.

        References
        ----------
        .. [1] W. G. Cochran (1977). Sampling Techniques, 3rd ed., sections 3.6 and 5A.2. Wiley.
        """
        check_fraction(confidence, "confidence")
        with self._file.reading() as connection:
            return accepted_error(queries.strata(connection), confidence)

    def statistics(self) -> QueueStatistics:
        """Return how many rows are waiting or done, and how often reviewers kept the proposal."""
        with self._file.reading() as connection:
            counts = queries.counts(connection)
            by_code = queries.agreement(connection)
        done = sum(n for n, _ in by_code.values())
        return QueueStatistics(
            self.audit_share,
            **counts,
            by_class={
                label: by_code.get(code, (0, 0)) for code, label in enumerate(self._classes.values)
            },
            agreement=sum(n for _, n in by_code.values()) / done if done else float("nan"),
        )

    def server(self, port: int = 0) -> QueueServer:
        """Return a small web page on this machine for reviewers to label with.

        Parameters
        ----------
        port : int, default=0
            Port on 127.0.0.1; 0 takes a free one.

        Returns
        -------
        server : QueueServer
            ``server.url`` is the address. It contains a secret: anyone who has it can label rows.
            ``server.serve_forever()`` serves until it is interrupted; ``with server:`` serves in
            the background.

        Raises
        ------
        MissingDependency
            If Jinja is not installed (extra ``queue``).
        """
        return QueueServer(self, port)
