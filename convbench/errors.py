"""The errors convbench raises: each names the value, what is allowed, and the remedy, in one line."""


class ConvbenchError(Exception):
    """Base of every error that convbench raises on purpose."""


class RequestError(ConvbenchError, ValueError):
    """The request is wrong and can be put right by whoever made it; the command line exits with 2."""


class UnavailableError(ConvbenchError, RuntimeError):
    """The request is right, but this machine, or what is installed on it, cannot do it."""
