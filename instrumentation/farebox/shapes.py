"""Say whether a target of an SDK file exists in what is installed, from the source alone: nothing is imported.

Comes in: a `Target`. Goes out: None where its method is found, else the reason in words. It reads the class and the
method by name, through base classes and names that a module has from another; what stands in no source (a compiled
module) counts as not found. Importing every SDK would take seconds, and run their code.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TypeAlias

from farebox.sdks import Target

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

#: Names lead from module to module; none of an SDK goes through more.
STEPS_MAX = 8


def has_module(target: Target) -> bool:
    """Whether the module of the target is there, whatever is in it."""
    return _tree(target.module) is not None


def missing(target: Target) -> str | None:
    """Why the target cannot be patched; None when it can."""
    if not has_module(target):
        return f"{target.module} is not there"
    *outer, last = target.attribute.split(".")
    found = _member(target.module, outer[0], last) if outer else _named(target.module, last)
    return None if found else f"{target.module} has no callable {target.attribute}"


def _member(module: str, kind: str, name: str, steps: int = STEPS_MAX) -> bool:
    """Whether a class, as a module knows it, has a method of this name, its own or inherited."""
    place = _class_of(module, kind, steps)
    if place is None or steps == 0:
        return False
    home, definition = place
    for statement in _flat(definition.body):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and statement.name == name:
            return True
    bases = (_last_name(base) for base in definition.bases)
    return any(_member(home, base, name, steps - 1) for base in bases if base and base != kind)


def _named(module: str, name: str, steps: int = STEPS_MAX) -> bool:
    """Whether a module has a function of this name, its own or from another."""
    tree = _tree(module)
    if tree is None or steps == 0:
        return False
    for statement in _flat(tree.body):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and statement.name == name:
            return True
        if (source := _imported(statement, module, name)) is not None and _named(*source, steps - 1):
            return True
    return False


def _class_of(module: str, kind: str, steps: int) -> tuple[str, ast.ClassDef] | None:
    tree = _tree(module)
    if tree is None or steps == 0:
        return None
    for statement in _flat(tree.body):
        if isinstance(statement, ast.ClassDef) and statement.name == kind:
            return module, statement
        source = _imported(statement, module, kind)
        if source is not None and (found := _class_of(*source, steps - 1)) is not None:
            return found
    return None


def _imported(statement: ast.stmt, module: str, name: str) -> tuple[str, str] | None:
    """The module and the name behind a name, where this statement brings it in, or may with all that a module has."""
    if not isinstance(statement, ast.ImportFrom):
        return None
    for alias in statement.names:
        if alias.name == "*":
            return _absolute(statement, module), name
        if (alias.asname or alias.name) == name:
            return _absolute(statement, module), alias.name
    return None


def _absolute(statement: ast.ImportFrom, module: str) -> str:
    if not statement.level:
        return statement.module or ""
    parts = module.split(".")
    file = _file(module)
    above = statement.level - 1 if file is not None and file.name == "__init__.py" else statement.level
    kept = parts[: len(parts) - above] if above else parts
    return ".".join([*kept, *([statement.module] if statement.module else [])])


def _last_name(base: ast.expr) -> str | None:
    """The class of a base: `Generic` of `Generic[T]`, `Base` of `module.Base`."""
    if isinstance(base, ast.Subscript):
        base = base.value
    if isinstance(base, ast.Attribute):
        return base.attr
    return base.id if isinstance(base, ast.Name) else None


def _flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body, those behind conditions among them."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.If, ast.Try)):
            yield from _flat([*statement.body, *statement.orelse])


@functools.lru_cache(maxsize=256)
def _tree(module: str) -> ast.Module | None:
    file = _file(module)
    if file is None:
        return None
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _file(module: str) -> Path | None:
    """The source of a module, found below its top package: asking the import system would import its parents."""
    package, *inner = module.split(".")
    spec = PathFinder.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        place = Path(folder, *inner)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None
