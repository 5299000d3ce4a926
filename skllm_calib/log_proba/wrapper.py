"""Common to all estimators around one classifier: routing of metadata, columns, tags."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import MetaEstimatorMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

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
