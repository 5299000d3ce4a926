"""What to do with a row, read from a table of likelihood and impact, as risk officers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skllm_calib.decisions._cells import check_actions, check_bands, check_monotone, check_order
from skllm_calib.decisions._impact import Codes, ImpactLevels
from skllm_calib.decisions._json import JsonMixin
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.labels import check_classes
from skllm_calib.log_proba.validation import check_proba, check_weight
from skllm_calib.metrics.binning import DECIMALS

__all__ = ["RiskMatrix"]


class RiskMatrix(JsonMixin):
    """A risk matrix: bands of likelihood x levels of impact -> action.

    The likelihood is the calibrated probability that the decision for the most probable class is
    wrong, or that the row is of a named class. The impact is how much harm that does; it comes with
    the class or with the row. As the bands are numbers, not words alone, two people who read the
    same matrix act alike; this holds only if the probabilities are calibrated.

    Parameters
    ----------
    likelihood_bands : dict of str to (float, float)
        Name of each band to its lower and upper end, from the least to the most likely, such as
        ``{"rare": (0, 0.01), "possible": (0.01, 0.2), "likely": (0.2, 1)}``. They cover [0, 1]
        without gap or overlap. The lower end belongs to the band, the upper one to the next: a
        probability on the border is treated as the higher risk.
    impact_levels : sequence of str, or dict of str to float
        Names of the levels, from the least to the most severe. A dict gives the number each level
        starts at, such as ``{"minor": 0, "major": 10_000}`` in euros, so that impacts may be
        numbers.
    actions : array-like of shape (n_bands, n_levels)
        Name of the action in each cell: a row for each band, a column for each level, both in the
        order above.
    action_order : sequence of str, default=None
        The actions from the mildest to the strictest. None for accept, review, reject, if the
        matrix has no others.
    monotone : bool, default=True
        Whether to refuse a matrix in which more likelihood or more impact leads to a milder action,
        nearly always a slip. With False, `action_order` is the order of their colours only.
    impact : dict of class to level, or level, default=None
        Impact where :meth:`decide` is given none: for each class, a level or a number; or one for
        all rows. With a dict, a row has the impact of its most probable class, whose wrong
        acceptance does the harm, or of `event_class`.
    event_class : object, default=None
        The class whose probability is the likelihood, for matrices about an event such as "fraud".
        None for the probability that the most probable class is wrong.
    classes : array-like of shape (n_classes,), default=None
        Sorted classes of the columns of the probabilities. None for those of `impact`. Needed for
        `event_class` without such a dict.

    Attributes
    ----------
    likelihood_bands : dict of str to tuple
        Name of each band to its ends.
    impact_levels : tuple of str
        Names of the levels.
    impact_starts : tuple of float or None
        Number each level starts at, if numbers are allowed.
    actions : ndarray of shape (n_bands, n_levels)
        Action in each cell.
    action_order : tuple of str
        The actions from the mildest to the strictest.
    shape : tuple of int
        Number of bands and of levels.

    Raises
    ------
    ValueError
        If bands, levels or actions do not make a matrix; the message names the band or the cell.

    See Also
    --------
    RiskMatrixDisplay : Draws the matrix and the rows in its cells.

    References
    ----------
    .. [1] ISO 31000:2018, Risk management: Guidelines.
    .. [2] IEC 31010:2019, Risk management: Risk assessment techniques (consequence/likelihood
       matrix).
    .. [3] L. A. Cox (2008). What's Wrong with Risk Matrices? Risk Analysis 28: words without
       probabilities rank risks badly, and cells should not be milder further up or right.

    Examples
    --------
    >>> from skllm_calib.decisions import RiskMatrix
    >>> matrix = RiskMatrix(
    ...     {"rare": (0, 0.02), "possible": (0.02, 0.2), "likely": (0.2, 1)},
    ...     {"minor": 0, "major": 10_000},  # euros
    ...     [["accept", "accept"], ["accept", "review"], ["review", "reject"]],
    ... )
    >>> proba = [[0.99, 0.01], [0.1, 0.9], [0.1, 0.9]]
    >>> matrix.decide(proba, impact=[50_000, 50_000, 200])
    array(['accept', 'review', 'accept'], dtype='<U6')
    >>> matrix.cells(proba, impact=[50_000, 50_000, 200])
    array([[0, 1],
           [1, 1],
           [0, 0]])
    """

    def __init__(
        self,
        likelihood_bands: Mapping[str, Sequence[float]],
        impact_levels: Sequence[str] | Mapping[str, float],
        actions: Sequence[Sequence[str]] | NDArray[Any],
        *,
        action_order: Sequence[str] | None = None,
        monotone: bool = True,
        impact: Mapping[Any, str | float] | str | float | None = None,
        event_class: object = None,
        classes: ArrayLike | None = None,
    ) -> None:
        self.likelihood_bands = check_bands(likelihood_bands)
        self._levels = ImpactLevels.read(impact_levels)
        self.impact_levels, self.impact_starts = self._levels.names, self._levels.starts
        self.monotone = bool(monotone)
        bands = tuple(self.likelihood_bands)
        self.actions = check_actions(actions, bands, self.impact_levels)
        self.action_order = check_order(action_order, self.actions, self.monotone)
        if self.monotone:
            check_monotone(self.actions, self.action_order, bands, self.impact_levels)
        self.impact = impact
        self.event_class = event_class
        self.classes = None if classes is None else check_classes(classes)
        if self.classes is None and isinstance(impact, Mapping):
            self.classes = check_classes(list(impact), "impact", sort=True)
        if event_class is not None and (
            self.classes is None or event_class not in self.classes.tolist()
        ):
            known = "there are no classes" if self.classes is None else self.classes.tolist()
            raise InvalidInput(
                f"event_class={event_class!r} is not among the classes ({known}): list those of "
                "the columns with classes=estimator.classes_.",
                "event_class",
                value=event_class,
            )
        if isinstance(impact, Mapping) and self.classes is not None:
            self._levels.of_classes(impact, self.classes)
        elif impact is not None:
            self._levels.of_rows(impact, 1)

    @classmethod
    def five_by_five(cls, **options: Any) -> Self:
        """Make a matrix of five bands and five levels in the style of ISO 31000.

        The standard names no numbers; these are a start. A decision that is wrong with 1 % is
        accepted up to a moderate impact, one that is wrong with 10 % only where it is negligible.

        Parameters
        ----------
        **options : dict
            Keyword arguments of `RiskMatrix`, such as `impact`; also `impact_levels`, five of your
            own, or `likelihood_bands` or `actions`.

        Returns
        -------
        matrix : RiskMatrix
            Bands from "rare" (below 1 %) to "almost certain" (from 50 %), levels from "negligible"
            to "severe", actions accept, review and reject.

        Examples
        --------
        >>> from skllm_calib.decisions import RiskMatrix
        >>> matrix = RiskMatrix.five_by_five(impact={"food": "moderate", "toys": "major"})
        >>> matrix.decide([[0.9, 0.1], [0.995, 0.005], [0.005, 0.995]])
        array(['review', 'accept', 'accept'], dtype='<U6')
        """
        a, r, x = "accept", "review", "reject"
        defaults = {
            "likelihood_bands": {
                "rare": (0, 0.01),
                "unlikely": (0.01, 0.05),
                "possible": (0.05, 0.2),
                "likely": (0.2, 0.5),
                "almost certain": (0.5, 1),
            },
            "impact_levels": ("negligible", "minor", "moderate", "major", "severe"),
            "actions": [
                [a, a, a, a, r],
                [a, a, a, r, r],
                [a, r, r, r, r],
                [r, r, r, r, x],
                [r, r, r, x, x],
            ],
        }
        return cls(**(defaults | options))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of bands and of levels."""
        return len(self.likelihood_bands), len(self.impact_levels)

    def decide(self, proba: ArrayLike, impact: Any = None) -> NDArray[np.str_]:
        """Read the action of each row.

        Parameters
        ----------
        proba : array-like of shape (n_samples, n_classes) or (n_samples,)
            Calibrated probabilities in [0, 1], columns in sorted order of the classes, or named
            by them in any order; 1-D holds those of the last class of two.
        impact : array-like of shape (n_samples,), level, or dict of class to level, default=None
            Impact of each row, of all rows or of each class: names of levels, or numbers if the
            levels have starts. That of the matrix when None.

        Returns
        -------
        actions : ndarray of shape (n_samples,)
            Names of the actions.

        Raises
        ------
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        return self.actions[self.locate(proba, impact)]

    def explain(
        self, proba: ArrayLike, impact: Any = None, *, labels: ArrayLike | None = None
    ) -> list[str]:
        """Say for each row how likely and how severe its event is.

        Parameters
        ----------
        proba, impact
            As in :meth:`decide`.
        labels : array-like of shape (n_classes,), default=None
            What the classes are called here, in the order of the columns; those of the matrix,
            or the numbers of the columns, when None.

        Returns
        -------
        reasons : list of str
            One sentence for each row.

        Raises
        ------
        ValueError
            If an input does not fit; the message names the row or the value.

        Examples
        --------
        >>> from skllm_calib import RiskMatrix
        >>> matrix = RiskMatrix.five_by_five(impact="moderate")
        >>> matrix.explain([[0.97, 0.03]], labels=["ham", "spam"])
        ["likelihood 'unlikely' (0.03 that 'ham' is wrong), impact 'moderate'"]
        """
        bands, levels = self.locate(proba, impact)
        rows = check_proba(proba, classes=self.classes)
        if labels is None:
            labels = np.arange(rows.shape[1]) if self.classes is None else self.classes
        names = [str(label) for label in np.asarray(labels).tolist()]
        if self.event_class is None:
            events = [f"{names[best]!r} is wrong" for best in rows.argmax(axis=1)]
            likelihoods = 1 - rows.max(axis=1)
        else:
            events = [f"it is {str(self.event_class)!r}"] * len(rows)
            likelihoods = rows[:, names.index(str(self.event_class))]
        band_names = tuple(self.likelihood_bands)
        return [
            f"likelihood {band_names[band]!r} ({likelihood:.3g} that {event}), impact "
            f"{self.impact_levels[level]!r}"
            for band, level, likelihood, event in zip(
                bands, levels, likelihoods, events, strict=True
            )
        ]

    def cells(
        self, proba: ArrayLike, impact: Any = None, *, sample_weight: ArrayLike | None = None
    ) -> NDArray[Any]:
        """Count the rows in each cell.

        Parameters
        ----------
        proba, impact
            As in :meth:`decide`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        counts : ndarray of shape (n_bands, n_levels)
            Number of rows, or sum of their weights.

        Raises
        ------
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        cell = np.ravel_multi_index(self.locate(proba, impact), self.shape)
        weight = None if sample_weight is None else check_weight(sample_weight, cell.size)
        return np.bincount(cell, weight, minlength=self.actions.size).reshape(self.shape)

    def locate(self, proba: ArrayLike, impact: Any = None) -> tuple[Codes, Codes]:
        """Find the cell of each row.

        Parameters
        ----------
        proba, impact
            As in :meth:`decide`.

        Returns
        -------
        band, level : ndarray of shape (n_samples,)
            Numbers of the band and of the level of each row, from 0.

        Raises
        ------
        ValueError
            If an input does not fit; the message names the row or the value.
        """
        impact = self.impact if impact is None else impact
        if impact is None:
            raise InvalidInput(
                "the impact is missing: give one for each row with impact=, or one for each class "
                "with RiskMatrix(..., impact={class: level}).",
                "impact",
            )
        by_class, classes = isinstance(impact, Mapping), self.classes
        if by_class and classes is None:
            classes = check_classes(list(impact), "impact", sort=True)
        rows = check_proba(proba, classes=classes)
        if self.event_class is None or classes is None:
            about = rows.argmax(axis=1)
            likelihood = 1 - rows.max(axis=1)
        else:
            about = np.full(len(rows), classes.tolist().index(self.event_class))
            likelihood = rows[:, about[0]]
        # Rounded, or 1 - 0.9 would lie below the band that starts at 0.1.
        starts = [low for low, _ in self.likelihood_bands.values()]
        band = np.searchsorted(starts, np.round(likelihood, DECIMALS), side="right") - 1
        if by_class and classes is not None:
            return band, self._levels.of_classes(impact, classes)[about]
        return band, self._levels.of_rows(impact, len(rows))

    def to_dict(self) -> dict[str, Any]:
        """Return the matrix as plain lists and numbers, ready for JSON.

        Returns
        -------
        content : dict
            What :meth:`from_dict` makes the same matrix of. Lists instead of dicts keep the order
            of bands and levels through any JSON tool.
        """
        starts = self.impact_starts
        impact: Any = self.impact
        if isinstance(impact, Mapping):
            labels = np.array(list(impact)).tolist()
            impact = [list(pair) for pair in zip(labels, impact.values(), strict=True)]
        event = self.event_class
        return {
            "likelihood_bands": [[name, *ends] for name, ends in self.likelihood_bands.items()],
            "impact_levels": list(self.impact_levels),
            "impact_starts": None if starts is None else list(starts),
            "actions": self.actions.tolist(),
            "action_order": list(self.action_order),
            "monotone": self.monotone,
            "impact": impact,
            "event_class": event.item() if isinstance(event, np.generic) else event,
            "classes": None if self.classes is None else self.classes.tolist(),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Return the matrix that :meth:`to_dict` described.

        Parameters
        ----------
        content : dict
            The content, also after a round trip through JSON. It is checked as any other.

        Returns
        -------
        matrix : RiskMatrix
            An equal matrix.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or the content is no valid matrix.
        """
        expected = set(cls.five_by_five().to_dict())
        if set(content) != expected:
            raise InvalidInput(
                f"a risk matrix has the keys {sorted(expected)}, but this content lacks "
                f"{sorted(expected - set(content))} and has the unknown "
                f"{sorted(set(content) - expected)}: use what RiskMatrix.to_dict() returned."
            )
        parts = dict(content)
        starts = parts.pop("impact_starts")
        if starts is not None:
            parts["impact_levels"] = dict(zip(parts["impact_levels"], starts, strict=True))
        if isinstance(parts["impact"], list):
            parts["impact"] = dict(parts["impact"])
        bands = {name: tuple(ends) for name, *ends in parts["likelihood_bands"]}
        if len(bands) < len(parts["likelihood_bands"]):
            raise InvalidInput(
                "likelihood_bands names a band twice: give each its own name.", "likelihood_bands"
            )
        return cls(**parts | {"likelihood_bands": bands})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RiskMatrix):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # equal by content, which is not hashable

    def __repr__(self) -> str:
        about = "a wrong decision" if self.event_class is None else repr(self.event_class)
        return (
            f"<RiskMatrix: likelihood of {about} in {self.shape[0]} bands x impact in "
            f"{self.shape[1]} levels -> {', '.join(self.action_order)}>"
        )
