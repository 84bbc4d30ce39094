"""The errors that convbench raises: each names the value, the valid ones and the remedy, in one line."""

from typing import Final

_LONGEST: Final = 200  # characters of a value in an error


class ConvbenchError(Exception):
    """Base of every error that convbench raises on purpose."""


class RequestError(ConvbenchError, ValueError):
    """The request is wrong and its author can correct it; the command line exits with 2."""


class UnavailableError(ConvbenchError, RuntimeError):
    """The request is valid, but this machine, or the software installed on it, cannot fulfil it."""


def shown(value: object) -> str:
    """A value as text for an error: one line, shortened, and never an exception of the value's own `repr`."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001  # integers of over 4,300 digits have no repr; an object's own may raise
        text = f"<{type(value).__name__} that cannot be printed>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}...{text[-17:]}"


def first_line(error: BaseException) -> str:
    """The first line of an error of another library's, or the error's type where it has no words."""
    return str(error).strip().partition("\n")[0].strip() or type(error).__name__
