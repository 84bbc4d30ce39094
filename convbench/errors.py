"""The errors convbench raises: each names the value, what is allowed, and the remedy, in one line."""

from typing import Final

_LONGEST: Final = 200  # characters of a value in an error


class ConvbenchError(Exception):
    """Base of every error that convbench raises on purpose."""


class RequestError(ConvbenchError, ValueError):
    """The request is wrong and can be put right by whoever made it; the command line exits with 2."""


class UnavailableError(ConvbenchError, RuntimeError):
    """The request is right, but this machine, or what is installed on it, cannot do it."""


def shown(value: object) -> str:
    """A value as an error names it: on one line and shortened, whatever its own `repr` does."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001  # numbers of 5,000 digits have none, nor have objects that are broken
        text = f"<{type(value).__name__} that cannot be printed>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}...{text[-17:]}"
