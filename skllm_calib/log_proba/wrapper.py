"""Common to all estimators around one classifier: routing of metadata, columns, tags."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import MetaEstimatorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import (
    _check_method_params,
    check_is_fitted,
    has_fit_parameter,
)

from skllm_calib.log_proba.scores import indexed

__all__ = ["WrapperMixin"]


class WrapperMixin(MetaEstimatorMixin):  # type: ignore[misc]
    """For meta-estimators with the parameters ``estimator`` and ``cv``, fitted ``estimator_``."""

    estimator: Any
    cv: Any
    estimator_: Any

    def get_metadata_routing(self) -> MetadataRouter:
        """Return where scikit-learn's metadata routing sends what.

        Returns
        -------
        MetadataRouter
        """
        to_fit = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        router.add(estimator=self.estimator, method_mapping=to_fit)
        if hasattr(self.cv, "get_metadata_routing"):
            to_split = MethodMapping().add(caller="fit", callee="split")
            router.add(splitter=self.cv, method_mapping=to_split)
        return router

    def _routed(
        self, weight: NDArray[Any] | None, fit_params: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the estimator's ``fit`` and the splitter get."""
        given = {} if weight is None else {"sample_weight": weight}
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", **given, **fit_params)
            splitter = routed["splitter"].split if "splitter" in routed else {}
            return dict(routed.estimator.fit), dict(splitter)
        if not has_fit_parameter(self.estimator, "sample_weight"):
            given = {}
        return {**given, **fit_params}, {}

    def _fitted_clone(
        self, X: Any, y: NDArray[Any], params: dict[str, Any], weight: NDArray[Any] | None
    ) -> Any:
        """Fit a clone; one that takes no weights does not see rows of weight zero."""
        if weight is not None and not weight.all() and "sample_weight" not in params:
            used = np.flatnonzero(weight)
            params = _check_method_params(X, params, indices=used)
            X, y = _safe_indexing(indexed(X), used), y[used]
        return clone(self.estimator).fit(X, y, **params)

    @property
    def n_features_in_(self) -> int:
        """Number of columns of a table seen in fit."""
        return self._of_estimator("n_features_in_")  # type: ignore[no-any-return]

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the columns of a DataFrame seen in fit."""
        return self._of_estimator("feature_names_in_")  # type: ignore[no-any-return]

    def _of_estimator(self, name: str) -> Any:
        try:
            check_is_fitted(self)
        except NotFittedError as e:
            raise AttributeError(f"{type(self).__name__} has no {name} before fit") from e
        return getattr(self.estimator_, name)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        if inner.classifier_tags is not None:
            tags.classifier_tags.poor_score = inner.classifier_tags.poor_score
        return tags
