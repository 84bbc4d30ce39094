"""The fields of a request: one entry says all there is to know of a field, and everything else follows from the entry.

From a dataclass of such fields follow what the command line offers (`cli.options`), keyword arguments with their types
and documentation (`called_with`), what is held whatever form it was said in (the descriptor `Field`), JSON both ways
and its shape (`stored`), and what may change when a sweep is resumed (`Field.agrees`).
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import operator
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, dataclass
from functools import wraps
from typing import Any, Final, Generic, ParamSpec, TypeVar, cast, overload

Given = TypeVar("Given")
Held = TypeVar("Held")
Arguments = ParamSpec("Arguments")
Request = TypeVar("Request")
Result = TypeVar("Result")

NOT_STORED: Final = object()
WIDTH: Final = 112  # characters of a line of an argument's description


def as_it_is(value: Any) -> Any:
    """The value."""
    return value


@dataclass(frozen=True)
class Option:
    """How the command line offers a field.

    Attributes:
        help: The line of help.
        default: The default in words.
        metavar: What stands for the value in the help.
        kind: Type that the text is read as before the field reads it.
        name: Without dashes, where it is not the field's name.
        is_flag: Whether it takes no value.
        multiple: Whether it may be repeated.
        also: Another name for it, without dashes.
    """

    help: str
    default: str = ""
    metavar: str | None = None
    kind: type = str
    name: str = ""
    is_flag: bool = False
    multiple: bool = False
    also: str = ""


class Field(Generic[Given, Held]):
    """One field of a request, as the descriptor of a dataclass's attribute.

    Whatever form is assigned is read, so that an instance holds one form of each value. It is assigned once: in place
    of `frozen=True`, which has mypy forget that an inherited attribute is a descriptor.

    Args:
        read: What is held of what is given; the first argument is what errors call it. Takes what it has made, too, and
            depends on nothing of this machine. Raises `RequestError`.
        default: Read where nothing is given.
        text: The description of the argument.
        option: How the command line offers it; None where it does not.
        settle: What is measured of what is held: defaults filled in, values checked against this machine.
        stored: Shape in sweep.json, see `convbench.shape`.
        write: What `json` is given of what is held.
        needed: Whether every sweep.json has it.
        absent: Read where a sweep.json lacks it, if that is not the default.
        optional: Whether it is left out of a sweep.json whose reader takes the same from its absence, as versions do
            that do not know the field.
        seen: What of a spec is compared with a request to resume; by default the field.
        manner: Whether sweeps that differ in it were measured in another manner, which `compare` tells.
        agrees: Whether a request to resume may say the first value where the sweep has the second.
    """

    def __init__(
        self,
        read: Callable[[str, Given], Held],
        default: Given,
        text: str,
        *,
        option: Option | None = None,
        settle: Callable[[Any], Any] = as_it_is,
        stored: Any = NOT_STORED,
        write: Callable[[Any], Any] = as_it_is,
        needed: bool = False,
        absent: Any = NOT_STORED,
        optional: bool = False,
        manner: bool = False,
        seen: Callable[[Any], Any] | None = None,
        agrees: Callable[[Any, Any], bool] = operator.eq,
    ) -> None:
        self.read, self.default, self.text = read, default, text
        self.option, self.settle = option, settle
        self.stored, self.write, self.needed, self.optional = stored, write, needed, optional
        self.manner = manner
        self.absent = default if absent is NOT_STORED else absent
        self.seen, self.agrees = seen or (lambda spec: getattr(spec, self.name)), agrees
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Any: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Held: ...

    def __get__(self, instance: object | None, owner: type) -> Any:
        return self.default if instance is None else instance.__dict__[self.name]  # dataclasses ask for the default so

    def __set__(self, instance: object, value: Given) -> None:
        if self.name in instance.__dict__:
            raise FrozenInstanceError(f"cannot assign to field {self.name!r}")
        instance.__dict__[self.name] = self.read(self.name, value)


def fields_of(request: type) -> dict[str, Field[Any, Any]]:
    """The fields of a dataclass, in its order."""
    found = {name: value for owner in reversed(request.__mro__) for name, value in vars(owner).items()}
    return {field.name: cast("Field[Any, Any]", found[field.name]) for field in dataclasses.fields(request)}


def stored(request: type) -> dict[str, Field[Any, Any]]:
    """Those that sweep.json has."""
    return {name: field for name, field in fields_of(request).items() if field.stored is not NOT_STORED}


def settled(request: Any, kind: type) -> dict[str, Any]:
    """What is measured of a request: the fields of `kind`, each settled."""
    return {name: field.settle(getattr(request, name)) for name, field in fields_of(kind).items()}


def called_with(
    request: Callable[Arguments, Request],
) -> Callable[[Callable[[Request], Result]], Callable[Arguments, Result]]:
    """Decorate a function of a request, so that callers give the fields as arguments.

    Types, signature and the "Args" of the docstring are those of the fields.
    """

    def decorate(function: Callable[[Request], Result]) -> Callable[Arguments, Result]:
        kind = cast(type, request)
        signature = _signature(kind, function)

        @wraps(function)
        def called(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:  # which the request would tell of itself
                raise TypeError(f"{function.__name__}(): {error}") from None
            return function(request(*args, **kwargs))

        called.__signature__ = signature  # type: ignore[attr-defined]
        before, _, after = (function.__doc__ or "").partition("\n\n    Returns:")
        if after:
            called.__doc__ = f"{before}\n\n    Args:\n{_described(kind)}\n\n    Returns:{after}"
        return called

    return decorate


def _signature(request: type, function: Callable[..., object]) -> inspect.Signature:
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY if field.kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=field.default,
            annotation=_given(str(field.type)),
        )
        for field in dataclasses.fields(request)
    ]
    result = inspect.signature(function).return_annotation
    return inspect.Signature(sorted(parameters, key=lambda one: one.kind), return_annotation=result)


def _given(annotation: str) -> str:
    """The first argument of a `Field[Given, Held]`: what may be given."""
    field = ast.parse(annotation, mode="eval").body
    if isinstance(field, ast.Subscript) and isinstance(field.slice, ast.Tuple):
        return ast.unparse(field.slice.elts[0])
    return annotation


def _described(request: type) -> str:
    """The fields as the "Args" of a docstring lists them."""
    lines = [
        textwrap.fill(f"{name}: {field.text}", WIDTH, subsequent_indent="    ")
        for name, field in fields_of(request).items()
    ]
    return textwrap.indent("\n".join(lines), " " * 8)


def shapes(request: type) -> Mapping[str, Any]:
    """The shapes of the fields that sweep.json has."""
    return {name: field.stored for name, field in stored(request).items()}
