"""CalibrationReport: one page for people, and the same figures for a dashboard."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from numpy.typing import ArrayLike

from skllm_calib.decisions import ReviewPolicy, RiskMatrix
from skllm_calib.exceptions import InvalidInput
from skllm_calib.log_proba.parameters import check_count, check_fraction
from skllm_calib.operations.report.charts import charts_of
from skllm_calib.operations.report.figures import figures_of
from skllm_calib.operations.report.material import Material, gather
from skllm_calib.operations.report.page import frame, page, report_templates
from skllm_calib.operations.report.scored_rows import score_rows, texts_of
from skllm_calib.operations.report.words import in_short
from skllm_calib.utils.files import write_text

__all__ = ["CalibrationReport"]

_TARGETS = (0.8, 0.9, 0.95, 0.98, 0.99)


class CalibrationReport:
    """How good a calibrated classifier is on labelled rows, on one page.

    Made by :meth:`from_estimator` or :meth:`from_predictions` from rows that were not used for
    fitting. The page is one file without scripts that loads nothing: figures before and after
    calibration, reliability diagrams, histograms, certified thresholds, costs, a risk matrix,
    confusions, the most confident errors and the least confident rows, data and model, and limits.

    Parameters
    ----------
    material : Material
        Checked rows, made by the two methods.
    title : str, default="Calibration report"
        Title of the page.
    targets : sequence of float in (0, 1), default=(0.8, 0.9, 0.95, 0.98, 0.99)
        Precisions to certify thresholds for.
    confidence : float in (0.5, 1), default=0.95
        Confidence of each certified threshold and of the claim.
    claim : float in (0, 1), default=0.02
        Calibration error to test the classifier against: is it smaller?
    n_rows : int, default=10
        Number of rows in each list.
    price_per_million : tuple of (float, float), default=None
        Price per million tokens read and per million tokens written, in any currency. None takes
        that of the model, in dollars, where it is known (`prices` of :class:`LLMClassifier`).

    Attributes
    ----------
    figures : dict
        Every figure, in plain JSON values; texts included. See :meth:`to_dict`.
    title : str
        The title.
    created : str
        Date, as YYYY-MM-DD.

    See Also
    --------
    CalibrationCard : What was done, without the rows.
    ReviewPolicy : What may pass, certified.

    Notes
    -----
    The page needs the extra ``report`` (Jinja and matplotlib); figures and JSON do not. Texts of
    rows are escaped, and the page forbids scripts and requests, so a text cannot do anything there.
    Everyone who opens the page can read them, though: if they are confidential, leave out `texts`,
    or pass ``show_texts=False``.

    References
    ----------
    .. [1] A. P. Dawid (1982). The Well-Calibrated Bayesian. JASA 77.
    .. [2] M. Mitchell et al. (2019). Model Cards for Model Reporting. FAT*.

    Examples
    --------
    >>> import numpy as np
    >>> from skllm_calib import CalibrationReport
    >>> rng = np.random.default_rng(0)
    >>> p = rng.beta(4, 1, size=1000)
    >>> y = np.where(rng.random(1000) < p, "spam", "ham")
    >>> report = CalibrationReport.from_predictions(y, p)
    >>> print(report)
    Calibration report
    - The most probable label is right in ... % of 1,000 rows; on average the probabilities claim
    ... %.
    ...
    >>> report.figures["after"]["accuracy"] > 0.7
    True
    >>> report.to_html()[:15]
    '<!doctype html>'
    """

    def __init__(
        self,
        material: Material,
        *,
        title: str = "Calibration report",
        targets: Sequence[float] = _TARGETS,
        confidence: float = 0.95,
        claim: float = 0.02,
        n_rows: int = 10,
        price_per_million: tuple[float, float] | None = None,
    ) -> None:
        check_count(n_rows, "n_rows", least=0)
        check_fraction(confidence, "confidence", 0.5)
        check_fraction(claim, "claim", hint="2 % is 0.02")
        for target in targets:
            check_fraction(target, "targets")
        if price_per_million is not None and (
            not isinstance(price_per_million, tuple | list)
            or len(price_per_million) != 2
            or not all(isinstance(p, int | float) and p >= 0 for p in price_per_million)
        ):
            raise InvalidInput(
                "price_per_million must be two prices, per million tokens read and per million "
                f"tokens written, got {price_per_million!r}",
                "price_per_million",
                value=price_per_million,
            )
        self.title = str(title)
        self.created = datetime.datetime.now(datetime.UTC).date().isoformat()
        self._material = material
        self._price = price_per_million
        self.figures = figures_of(
            material, targets=targets, confidence=confidence, claim=claim, n_rows=n_rows
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        ids: Sequence[Any] | None = None,
        show_texts: bool = True,
        sample_weight: ArrayLike | None = None,
        policy: ReviewPolicy | None = None,
        policy_saw_rows: bool = False,
        risk_matrix: RiskMatrix | None = None,
        impact: Any = None,
        **options: Any,
    ) -> Self:
        """Report on a fitted classifier.

        A classifier with ``explain``, such as :class:`CalibratedLLMClassifier`, is asked once per
        row, and reports the probabilities before calibration, failures, and tokens, too.

        Parameters
        ----------
        estimator : classifier
            Fitted, with ``predict_proba``. The policy of a :class:`ReviewClassifier` is reported,
            too.
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Rows that were used to fit neither the classifier nor its calibrator.
        y : array-like of shape (n_samples,)
            Their labels.
        ids : sequence of shape (n_samples,), default=None
            Names of the rows. None takes their positions, from 0.
        show_texts : bool, default=True
            Whether the page may show the texts of some rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, such as one over the probability with which a row was labelled.
        policy : ReviewPolicy, default=None
            A fitted policy is applied to the rows and tested on them; an unfitted one is fitted on
            them. None takes that of the estimator, if it has one.
        policy_saw_rows : bool, default=False
            Whether the policy was fitted on these rows, which are then no test of it.
        risk_matrix : RiskMatrix, default=None
            Counts the rows in its cells.
        impact : array-like of shape (n_samples,), level, or dict of class to level, default=None
            Impacts for the risk matrix, as in :meth:`RiskMatrix.decide`.
        **options : dict
            Further parameters of the class, such as `title` or `price_per_million`.

        Returns
        -------
        report : CalibrationReport
            The report.

        Raises
        ------
        InvalidInput
            If an input cannot be used, or no row could be scored.
        """
        scored = score_rows(estimator, X)
        material = gather(
            y,
            scored.proba,
            before=scored.before,
            labels=scored.classes,
            sample_weight=sample_weight,
            ids=ids,
            texts=texts_of(X) if show_texts else None,
            failures=scored.failures,
            policy=scored.policy if policy is None else policy,
            policy_saw_rows=policy_saw_rows,
            risk_matrix=risk_matrix,
            impact=impact,
            card=scored.card,
            usage=scored.usage,
        )
        return cls(material, **options)

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        proba: ArrayLike,
        *,
        before: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        texts: Sequence[str] | None = None,
        ids: Sequence[Any] | None = None,
        failures: Mapping[int, str] | None = None,
        sample_weight: ArrayLike | None = None,
        policy: ReviewPolicy | None = None,
        policy_saw_rows: bool = False,
        risk_matrix: RiskMatrix | None = None,
        impact: Any = None,
        card: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Report on probabilities from any source.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            True labels: strings, integers or booleans.
        proba : array-like of shape (n_samples,) or (n_samples, n_classes)
            Probabilities in [0, 1], columns in sorted order of the classes; 1-D holds those of the
            last class. Rows of NaN could not be scored; they are counted and left out.
        before : array-like like `proba`, default=None
            The probabilities before calibration.
        labels : array-like of shape (n_classes,), default=None
            Sorted classes of the columns. Needed when `y` lacks one of them.
        texts : sequence of str, default=None
            Texts of the rows, to show.
        ids : sequence of shape (n_samples,), default=None
            Names of the rows. None takes their positions, from 0.
        failures : mapping of int to str, default=None
            Why rows failed, by position.
        sample_weight, policy, policy_saw_rows, risk_matrix, impact
            As in :meth:`from_estimator`.
        card : CalibrationCard or mapping, default=None
            What is known about model and calibration.
        **options : dict
            Further parameters of the class, such as `title`.

        Returns
        -------
        report : CalibrationReport
            The report.

        Raises
        ------
        InvalidInput
            If an input cannot be used; it knows the parameter, the row and the value.
        """
        material = gather(
            y,
            proba,
            before=before,
            labels=labels,
            sample_weight=sample_weight,
            ids=ids,
            texts=texts,
            failures=failures,
            policy=policy,
            policy_saw_rows=policy_saw_rows,
            risk_matrix=risk_matrix,
            impact=impact,
            card=card,
        )
        return cls(material, **options)

    def to_html(self) -> str:
        """Return the page.

        Returns
        -------
        html : str
            A complete document; `save` writes it in UTF-8.

        Raises
        ------
        MissingDependency
            If Jinja or matplotlib is not installed.
        """
        templates = report_templates("CalibrationReport.to_html")
        return page(
            templates,
            self.figures,
            charts_of(self._material),
            title=self.title,
            created=self.created,
            price_per_million=self._price,
        )

    def to_dict(self, *, texts: bool = False) -> dict[str, Any]:
        """Return every figure in plain JSON values, for a dashboard.

        Parameters
        ----------
        texts : bool, default=False
            Whether to include the texts of the listed rows.

        Returns
        -------
        figures : dict
            ``format``, ``version``, ``title``, ``created`` and those of ``figures``: ``data``,
            ``card``, ``before``, ``after`` and ``class_shares`` (accuracy, log_loss, ece, ...),
            ``claim``, ``reliability``, ``by_class``, ``confusion``, ``risk_coverage``,
            ``thresholds``, ``review_cost``, ``policy``, ``risk_matrix``, ``rows`` and ``usage``;
            None for what is not known.
        """
        rows = self.figures["rows"]
        if not texts:
            rows = {
                name: [{k: v for k, v in row.items() if k != "text"} for row in listed]
                for name, listed in rows.items()
            }
        return {
            "format": "skllm_calib.CalibrationReport",
            "version": 1,
            "title": self.title,
            "created": self.created,
            **self.figures,
            "rows": rows,
        }

    def to_json(self, *, texts: bool = False) -> str:
        """Return :meth:`to_dict` as indented JSON.

        Parameters
        ----------
        texts : bool, default=False
            Whether to include the texts of the listed rows.

        Returns
        -------
        json : str
            Strict JSON.
        """
        content = self.to_dict(texts=texts)
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, or the figures to a file that ends in ``.json``; replaced in one step.

        Parameters
        ----------
        path : str or path-like
            The file: ``.html``, ``.htm`` or ``.json``.

        Raises
        ------
        ValueError
            If the file has another ending.
        """
        kind = Path(path).suffix.lower()
        if kind == ".json":
            write_text(path, self.to_json())
        elif kind in (".html", ".htm"):
            write_text(path, self.to_html())
        else:
            raise InvalidInput(
                f"path={str(path)!r} must end in .html or .json", "path", value=str(path)
            )

    def __str__(self) -> str:
        lines = [self.title, *(f"- {sentence}" for sentence in in_short(self.figures))]
        return "\n".join(lines).replace("\u00a0", " ")

    def __repr__(self) -> str:
        data, after = self.figures["data"], self.figures["after"]
        return (
            f"<CalibrationReport: {data['n']:,} rows, accuracy {after['accuracy']:.1%}, "
            f"ECE {after['ece']:.1%}>"
        )

    def _repr_html_(self) -> str:
        html = self.to_html()
        return frame(report_templates("CalibrationReport"), self.title, html)
