"""What is said on the command line: the types of options, and the options that follow from the fields of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from convbench.arguments import path
from convbench.errors import RequestError
from convbench.request.field import Field, Option, fields_of

REPORTS_DIRECTORY: Final = Path("reports")
Command = TypeVar("Command", bound=Callable[..., Any])


class Place(click.ParamType[Path]):
    """A file or directory."""

    name = "PATH"

    def convert(self, value: Any, param: click.Parameter | None, _ctx: click.Context | None) -> Path:
        """Nothing is no place; Python would take it for the current folder."""
        return path((param and param.name) or "path", value)


class Said(click.ParamType[Any]):
    """A field of a request, read as the request reads it; errors call it as the command line does."""

    def __init__(self, field: Field[Any, Any], option: Option) -> None:
        self.name = field.name
        self._read = field.read
        self._said = option.name or field.name.replace("_", "-")
        self._kind: click.ParamType[Any] = click.types.convert_type(option.kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read."""
        return self._read(self._said, self._kind.convert(value, param, ctx))

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """That of what the text is read as."""
        return self._kind.get_metavar(param, ctx) or self._kind.name.upper()


def options(request: type, *names: str, defaults: Mapping[str, str] | None = None) -> Callable[[Command], Command]:
    """Decorate a command with the options of a request's fields, in their order.

    Args:
        request: A dataclass of `Field`.
        names: Of the fields; by default all that the command line offers.
        defaults: The defaults in words, where the command has others.
    """
    fields = fields_of(request)
    offered = [(fields[name], fields[name].option) for name in names or fields]

    def decorate(command: Command) -> Command:
        for field, option in reversed(offered):
            if option is not None:
                command = _option(field, option, (defaults or {}).get(field.name, option.default))(command)
        return command

    return decorate


def _option(field: Field[Any, Any], option: Option, default: str) -> Callable[[Command], Command]:
    flag = f"--{option.name or field.name.replace('_', '-')}"
    about = f"{option.help}  [default: {default}]" if default else option.help
    if option.is_flag:
        return click.option(flag, field.name, is_flag=True, default=None, help=about)
    if option.multiple:  # several make one value, which the request reads
        return click.option(flag, field.name, multiple=True, metavar=option.metavar, help=about)
    flags = (flag, f"--{option.also}") if option.also else (flag,)
    return click.option(*flags, field.name, type=Said(field, option), metavar=option.metavar, help=about)


def said(request: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, of what could be."""
    return {name: value for name, value in request.items() if value not in (None, ())}


def with_networks(request: dict[str, Any]) -> dict[str, Any]:
    """The request with its networks read, after a line for each reason for which problems are left out."""
    if "network" not in request:
        return request
    from convbench.request.forms import suites
    from convbench.terminal.networks import say_skipped

    found = suites("network", request["network"])
    for suite in found:
        say_skipped(suite)
    return {**request, "network": found}


def new_directory() -> Path:
    """Where a sweep goes that was told no place."""
    return REPORTS_DIRECTORY / datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")


def share_of(percent: float) -> float:
    """What --fail-above allows, as a share."""
    if not 0 <= percent < float("inf"):
        raise RequestError(f"fail_above={percent:g} is not allowed; give a percentage from 0 up")
    return percent / 100
