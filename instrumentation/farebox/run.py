"""The command `farebox run`: start an app with metering switched on.

It sets FAREBOX_ENABLED for the app and its children. Where the start-up hook would not be read (no `farebox.pth` in the
app's environment, as after an installation into a folder), it puts a `sitecustomize` of ours in front, which starts
metering and then lets the app's own run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

USAGE = """\
usage: farebox run [--] PROGRAM [ARGUMENTS]

Start a program with metering switched on, for example: farebox run -- python app.py
PROGRAM is looked for on PATH: `python` is the one that the shell would start, which may be another environment than
that of this command. A file that ends in .py is started with the Python of this command."""

HOOK_FOLDER = "run_hook"


def run(arguments: list[str]) -> int:
    """Start an app with metering switched on."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    command = arguments[1:] if arguments and arguments[0] == "--" else arguments
    if not command:
        print(USAGE, file=sys.stderr)
        return 2
    if command[0].endswith(".py"):
        command = [sys.executable, *command]
    program = shutil.which(command[0])
    if program is None:
        print(f"farebox run: there is no program {command[0]!r} on PATH.", file=sys.stderr)
        return 1
    return _start([program, *command[1:]], environment(dict(os.environ)))


def environment(inherited: dict[str, str]) -> dict[str, str]:
    """The environment of the app: metering on, and our hook in front of its path."""
    hook = str(Path(__file__).parent / HOOK_FOLDER)
    paths = [path for path in inherited.get("PYTHONPATH", "").split(os.pathsep) if path and path != hook]
    return {**inherited, "FAREBOX_ENABLED": "1", "PYTHONPATH": os.pathsep.join([hook, *paths])}


def _start(command: list[str], environ: dict[str, str]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        # The app takes over this process, so that signals and exit codes are its own.
        os.execve(command[0], command, environ)
    return subprocess.run(command, env=environ, check=False).returncode
