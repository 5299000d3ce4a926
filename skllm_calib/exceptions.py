"""Every error this library raises on purpose, as one tree.

::

    SkllmCalibError
    ├── BackendError                  a request could not be answered
    │   ├── AuthenticationFailed      missing or refused key
    │   ├── BudgetExceeded            the budget is spent; what was answered is kept
    │   ├── BackendUnavailable        server down, timed out or overloaded after every retry
    │   │   └── RateLimited           the server asked to slow down, also after every retry
    │   ├── ContextTooLong            the text does not fit; says by how many tokens
    │   ├── ModelNotFound             no such model, file or provider
    │   ├── Refused                   a content filter or the model declined
    │   ├── SignalUnavailable         the model does not show this evidence; names those it does
    │   └── UnreadableReply           the server answered something that cannot be used
    ├── InvalidInput                  labels or numbers that cannot be used (also a ValueError)
    ├── MissingDependency             an optional package is needed (also an ImportError)
    ├── PromptError                   a template that cannot be filled (also a ValueError)
    ├── CalibrationMismatch           a saved calibration used with another model or prompt
    ├── NotCertifiableError           too few labels for the promise asked for (also a ValueError)
    ├── StorageError                  a file of ours is damaged, read-only, ... (also an OSError)
    ├── DamagedFile                   a saved file that cannot be read back (also a ValueError)
    └── BadLines                      lines of a file that cannot be used (also a ValueError)

Two warnings have classes of their own: `FailedRowsWarning` (some rows could not be scored) and
`OffLabelWarning` (most of the evidence fell on no label).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "AuthenticationFailed",
    "BackendError",
    "BackendUnavailable",
    "BadLines",
    "BudgetExceeded",
    "CalibrationMismatch",
    "ContextTooLong",
    "DamagedFile",
    "FailedRowsWarning",
    "InvalidInput",
    "MissingDependency",
    "ModelNotFound",
    "NotCertifiableError",
    "OffLabelWarning",
    "PromptError",
    "RateLimited",
    "Refused",
    "SignalUnavailable",
    "SkllmCalibError",
    "StorageError",
    "UnreadableReply",
]


class SkllmCalibError(Exception):
    """Base class of every error raised on purpose by skllm-calib.

    Attributes
    ----------
    way_out : str or None
        The parameter with which a call goes on in spite of it, where there is one.
    """

    way_out: str | None = None


class BackendError(SkllmCalibError):
    """A request could not be answered by the model behind it.

    Attributes
    ----------
    is_billed : bool
        Whether the server counted tokens for it, so that asking again would cost again.
    billed_tokens : tuple of (int, int, int)
        The tokens that it counted: read, written, and those of the first that it reused.
    """

    is_billed: bool = False
    billed_tokens: tuple[int, int, int] = (0, 0, 0)


class AuthenticationFailed(BackendError):
    """The key is missing, wrong, or not allowed to use the model."""


class BackendUnavailable(BackendError):
    """The server is down, unreachable or overloaded, also after every retry."""


class BudgetExceeded(BackendError):
    """The budget does not allow another request; the replies so far are kept."""


class RateLimited(BackendUnavailable):
    """The server asked to slow down, also after every retry."""


class ContextTooLong(BackendError):
    """The prompt does not fit the context of the model.

    Parameters
    ----------
    message : str
        What to tell the user.
    excess : int or None, default=None
        By how many tokens the prompt is too long, where the backend knows.
    """

    def __init__(self, message: str, excess: int | None = None) -> None:
        super().__init__(message)
        self.excess = excess

    def __reduce__(self) -> tuple[type[ContextTooLong], tuple[str, int | None]]:
        return type(self), (str(self), self.excess)


class ModelNotFound(BackendError):
    """No model, file or provider of this name."""


class Refused(BackendError):
    """A content filter or the model itself declined to answer."""


class SignalUnavailable(BackendError):
    """The model does not show the evidence that a signal needs."""


class UnreadableReply(BackendError):
    """The server answered something that cannot be used."""


class InvalidInput(SkllmCalibError, ValueError):
    """Labels, probabilities, weights or a parameter that cannot be used as they are.

    Parameters
    ----------
    message : str
        What to tell the user; it names the parameter, and the row and the value where there is one.
    parameter : str or None, default=None
        The argument at fault, as the function that was called names it.
    row : int or None, default=None
        Position of the first row at fault, counted from 0.
    value : object, default=None
        What was found there.
    way_out : str or None, default=None
        The parameter with which the call goes on in spite of it, where that is another one.

    Examples
    --------
    >>> from skllm_calib.exceptions import InvalidInput
    >>> from skllm_calib.metrics import brier_score
    >>> try:
    ...     brier_score(["ham", None], [0.2, 0.7])
    ... except InvalidInput as error:
    ...     print(error.parameter, error.row)
    y_true 1
    """

    def __init__(
        self,
        message: str,
        parameter: str | None = None,
        row: int | None = None,
        value: object = None,
        way_out: str | None = None,
    ) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.row = row
        self.value = value
        self.way_out = way_out

    def __reduce__(self) -> tuple[type[InvalidInput], tuple[Any, ...]]:
        return type(self), (str(self), self.parameter, self.row, self.value, self.way_out)


class MissingDependency(SkllmCalibError, ImportError):
    """An optional package is needed; the message names the extra to install."""


class PromptError(SkllmCalibError, ValueError):
    """A template cannot be filled from the data at hand."""


class CalibrationMismatch(SkllmCalibError):
    """A saved calibration was used with another model, prompt or label set."""


class DamagedFile(SkllmCalibError, ValueError):
    """A saved file is damaged or of another kind; the message names it and the way out."""


class NotCertifiableError(SkllmCalibError, ValueError):
    """Too few labels, or too many errors among them, for the promise asked for.

    Parameters
    ----------
    message : str
        What to tell the user.
    n_more : int or None, default=None
        About how many further labels are needed; None when more labels of the same kind would
        not help.
    """

    def __init__(self, message: str, n_more: int | None = None) -> None:
        super().__init__(message)
        self.n_more = n_more

    def __reduce__(self) -> tuple[type[NotCertifiableError], tuple[str, int | None]]:
        return type(self), (str(self), self.n_more)


class StorageError(SkllmCalibError, OSError):
    """A file that the library keeps cannot be read or written, for a reason outside of it.

    The file is damaged, its disk is full or read-only, or another process holds it.

    Parameters
    ----------
    message : str
        What to tell the user; it names the file and the way out.
    path : str or None, default=None
        The file.
    """

    def __init__(self, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path

    def __reduce__(self) -> tuple[type[StorageError], tuple[str, str | None]]:
        return type(self), (str(self), self.path)


class BadLines(SkllmCalibError, ValueError):
    """Some lines of a file cannot be used; the others are kept.

    Parameters
    ----------
    message : str
        What to tell the user.
    errors : sequence of (int, str), default=()
        Number of each bad line, counted from 1, and what is wrong with it.
    n_good : int, default=0
        Number of lines that were taken, those that changed nothing included.
    """

    def __init__(
        self, message: str, errors: Sequence[tuple[int, str]] = (), n_good: int = 0
    ) -> None:
        super().__init__(message)
        self.errors = list(errors)
        self.n_good = n_good

    def __reduce__(self) -> tuple[type[BadLines], tuple[str, list[tuple[int, str]], int]]:
        return type(self), (str(self), self.errors, self.n_good)


class FailedRowsWarning(UserWarning):
    """Some rows could not be scored and are NaN."""


class OffLabelWarning(UserWarning):
    """Most of the evidence fell on no label: the probabilities compare what little is left."""
