"""Docstrings that people are shown: commands, plug-ins and the schema have theirs under ``python -OO`` too."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any


def docstring(of: type | Callable[..., Any]) -> str:
    """The docstring of a class or function of a module, read from its source where Python was told to drop it.

    >>> docstring(docstring).splitlines()[0]
    'The docstring of a class or function of a module, read from its source where Python was told to drop it.'
    """
    if sys.flags.optimize < 2:
        return inspect.cleandoc(of.__doc__ or "")
    try:
        found = _of_source(inspect.getsourcefile(of) or "")
    except (OSError, SyntaxError, TypeError, ValueError):  # without source there is none
        return ""
    return found.get(of.__qualname__, "")


@functools.cache
def _of_source(path: str) -> dict[str, str]:
    with open(path, "rb") as file:
        tree = ast.parse(file.read())
    return dict(_below(tree, ""))


def _below(node: ast.AST, above: str) -> list[tuple[str, str]]:
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            name = f"{above}{child.name}"
            found += [(name, ast.get_docstring(child) or ""), *_below(child, f"{name}.")]
    return found
