"""The package's order: sizes of functions and files, and no circle among its modules."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator

import grimp
import pytest
from conftest import ROOT

MOST_LINES = 40  # of a function, from `def` to its last line
MOST_LINES_OF_A_FILE = 300
REASON = (
    "over {} lines: "  # and then why: above the decorators, or in the signature; of a file, before its first import
)
SHORTEST_REASON = 15  # characters

Function = ast.FunctionDef | ast.AsyncFunctionDef


def too_long(place: str, source: str) -> Iterator[str]:
    """Name the file and its functions that are too long without a reason.

    A function inside of a long one is not named: the outer one's reason is the inner one's, too.
    """
    lines = source.splitlines()
    tree = ast.parse(source)
    if len(lines) > MOST_LINES_OF_A_FILE and not has_reason(lines[: first_import(tree)], MOST_LINES_OF_A_FILE):
        yield place
    for name, function in long_functions(tree):
        if not has_reason(beside(function, lines), MOST_LINES):
            yield f"{place}:{name}"


def long_functions(node: ast.AST) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function) and child.end_lineno - child.lineno + 1 > MOST_LINES:
            yield child.name, child
        else:
            yield from long_functions(child)


def first_import(tree: ast.Module) -> int:
    """Number of lines before the first import, which hold the docstring and comments."""
    return next((node.lineno - 1 for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)), 0)


def beside(function: Function, lines: list[str]) -> list[str]:
    """Comment lines right above a function, and the lines of its decorators and its signature."""
    first = min(function.lineno, *(decorator.lineno for decorator in function.decorator_list), function.lineno) - 1
    above = first
    while above > 0 and lines[above - 1].lstrip().startswith("#"):
        above -= 1
    return lines[above : function.body[0].lineno - 1]


def has_reason(lines: list[str], limit: int) -> bool:
    reason = re.search(re.escape(REASON.format(limit)) + "(.*)", "\n".join(lines))
    return reason is not None and len(reason[1].strip()) >= SHORTEST_REASON


def circle(imports: dict[str, set[str]]) -> list[str] | None:
    """Modules that import one another in a circle; None if there is no circle."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_no_function_and_no_file_is_too_long_without_a_reason_beside_it():
    package = ROOT / "convbench"
    found = {
        name
        for path in sorted(package.rglob("*.py"))
        for name in too_long(path.relative_to(package).as_posix(), path.read_text())
    }
    assert not found, f"shorten it, or write '# {REASON.format(MOST_LINES)}...' beside it"


def test_no_modules_import_one_another():
    """Imports inside of functions count; those for type checkers alone do not."""
    graph = grimp.build_graph("convbench", exclude_type_checking_imports=True, cache_dir=None)
    found = circle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    assert found is None, " -> ".join(found or [])


LONG = "    x = 1\n" * 50


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (f"def f():\n{LONG}", ["m.py:f"]),
        (f"class A:\n  def f(self):\n{LONG}", ["m.py:f"]),
        (f"# over 40 lines: one formula after the other\n@cache\ndef f():\n{LONG}", []),
        (f"def f():  # over 40 lines: one formula after the other\n{LONG}", []),
        (f"def f(\n    a,\n):  # over 40 lines: one formula after the other\n{LONG}", []),
        (f"# over 40 lines: why\ndef f():\n{LONG}", ["m.py:f"]),  # which is no reason
        (f"# over 40 lines: one formula after the other\n\ndef f():\n{LONG}", ["m.py:f"]),  # of something else
        (f"# over 40 lines: one formula after the other\ndef f():\n  def g():\n{LONG}  return g\n", []),
        ("x = 1\n" * 301, ["m.py"]),
        ('"""Something.\n\nover 300 lines: a table of numbers\n"""\nimport os\n' + "x = 1\n" * 301, []),
        ("# over 300 lines: a table of numbers\nimport os\n" + "x = 1\n" * 301, []),
        ("import os\n# over 300 lines: a table of numbers\n" + "x = 1\n" * 301, ["m.py"]),
        ("x = 1\n" * 300, []),
    ],
)
def test_what_is_too_long(source, named):
    assert list(too_long("m.py", source)) == named


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
