"""The console command `farebox`: finds the named command and hands it its arguments.

Commands come from the entry-point group `farebox.commands`, so that no part is imported until one of its commands is
named, and a part that is not installed costs only its own commands. A command is a function that takes the arguments
behind its name and answers the exit code: 0 done, 1 failed, 2 used wrongly.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from farebox._version import __version__

GROUP = "farebox.commands"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is that of the command."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if given else 2
    if given[0] in ("-V", "--version"):
        print(f"farebox {__version__}")
        return 0
    commands = _commands()
    if given[0] not in commands:
        print(f"farebox: no command {given[0]!r}. Known: {', '.join(sorted(commands))}.", file=sys.stderr)
        return 2
    return _run(commands[given[0]], given[1:])


def _run(command: EntryPoint, arguments: list[str]) -> int:
    try:
        function: Callable[[list[str]], int] = command.load()
    except ImportError as error:
        print(_missing_part(command, error), file=sys.stderr)
        return 1
    try:
        return function(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left, as `| head` does; that is no fault.
        sys.stderr.close()
        return 0


def _missing_part(command: EntryPoint, error: ImportError) -> str:
    missing = getattr(error, "name", None) or str(error)
    if missing.startswith("farebox"):
        return f"farebox: the command {command.name!r} is not part of this installation ({error})."
    return f'farebox {command.name}: {missing} is not installed. Run: pip install "farebox[server]"'


def _commands() -> dict[str, EntryPoint]:
    return {command.name: command for command in entry_points(group=GROUP)}


def _overview() -> str:
    commands = sorted(_commands().values(), key=lambda command: command.name)
    width = max((len(command.name) for command in commands), default=0)
    listed = "\n".join(f"  {command.name:<{width}}  {_help(command)}".rstrip() for command in commands)
    return f"""\
usage: farebox COMMAND [ARGUMENTS]

Meters what applications spend on LLMs.

{listed}

`farebox COMMAND --help` says more; `farebox --version` names the version."""


def _help(command: EntryPoint) -> str:
    """The first docstring line of a command, read from its source: importing all parts would take a second."""
    source = _source(command.module)
    if source is None:
        return ""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == command.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _source(module: str) -> str | None:
    """The source of a module, found without importing it; its top package is imported and is light."""
    package, *inner = module.split(".")
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        place = Path(folder, *inner)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file.read_text(encoding="utf-8")
    return None
