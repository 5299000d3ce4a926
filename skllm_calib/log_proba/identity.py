"""What a calibration was made for, and what has changed since."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["CALIBRATORS_VERSION", "differences", "identity_of"]

CALIBRATORS_VERSION = 1
"""Increased when a fitted calibrator of an older release would give other probabilities today."""


def identity_of(fingerprint: Mapping[str, Any] | None, served_model: str | None) -> dict[str, Any]:
    """Return in plain values what the probabilities of an estimator depend on.

    Parameters
    ----------
    fingerprint : mapping or None
        The ``fingerprint_`` of the estimator; None if it has none.
    served_model : str or None
        The model that answered, as the provider names it; None if that is not known.
    """
    return {
        "estimator": copy.deepcopy(fingerprint),
        "model as served": served_model,
        "version of the calibrators": CALIBRATORS_VERSION,
    }


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what differs, with both values.

    What is not known on one side is no difference: the model served, or the settings of an
    estimator without a fingerprint. Nor is an address: a calibration made on one machine may be
    used with the company's server, and an address does not say which model is behind it.
    """
    known = [name for name in then if then[name] is not None and now.get(name) is not None]
    before = dict(_flat({name: then[name] for name in known}))
    after = dict(_flat({name: now[name] for name in known}))
    return [
        f"{name} was {before.get(name)!r} and is {after.get(name)!r}"
        for name in {**before, **after}
        if before.get(name) != after.get(name) and not name.endswith("base_url")
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, "" if name == "estimator" else f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value
