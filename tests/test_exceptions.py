from __future__ import annotations

import copy
import pickle

import pytest

from skllm_calib import exceptions
from skllm_calib.exceptions import (
    ContextTooLong,
    InvalidInput,
    NotCertifiableError,
    SkllmCalibError,
)

ALL = [getattr(exceptions, name) for name in exceptions.__all__ if not name.endswith("Warning")]


@pytest.mark.parametrize("kind", ALL)
def test_one_tree_that_pickles(kind):
    assert issubclass(kind, SkllmCalibError)
    assert kind.__name__ in exceptions.__doc__
    error = pickle.loads(pickle.dumps(kind("what happened")))
    assert type(error) is kind
    assert str(error) == "what happened"


def test_familiar_bases():
    assert issubclass(exceptions.MissingDependency, ImportError)
    assert issubclass(exceptions.PromptError, ValueError)
    assert issubclass(exceptions.NotCertifiableError, ValueError)
    assert issubclass(exceptions.RateLimited, exceptions.BackendUnavailable)


@pytest.mark.parametrize(
    ("error", "name"), [(ContextTooLong("x", 7), "excess"), (NotCertifiableError("x", 7), "n_more")]
)
def test_numbers_survive(error, name):
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert getattr(twin, name) == 7


def test_invalid_input_knows_where():
    error = InvalidInput("y has no label in row 3", "y", 3, None)
    assert isinstance(error, ValueError)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(twin), twin.parameter, twin.row, twin.value) == (str(error), "y", 3, None)
