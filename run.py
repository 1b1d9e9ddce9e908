#!/usr/bin/env python3
"""Set up farebox and run it from a checkout; needs git and Python >= 3.11 (with venv, or uv on PATH), nothing else.

  python3 run.py demo            the whole line once: real SDKs, a local fake provider, collector, priced rows, API
  python3 run.py demo --keep     the same, left running until Ctrl-C
  python3 run.py test            the test suite without the slow tests; further arguments go to pytest
  python3 run.py test --slow     the slow tests alone
  python3 run.py check           format, lint, types, import floors
  python3 run.py sdk NAME        one SDK's tests in its own environment; NAME is a file of constraints/, such as openai
  python3 run.py emitter NAME    make the environment of a foreign emitter, a file of constraints/emitters/
  python3 run.py setup           only the set-up

The set-up makes `.venv` and installs what `pyproject.toml` asks for at the versions of `constraints.txt`. It does
nothing when both files are unchanged since the last time. SDKs whose versions clash have environments of their own
below `.venvs`, one for each file of `constraints/`; those of `NAME-oldest` run the tests marked `core`, which are all
but those that a test file names as `NEWER`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / "farebox-setup.txt"
SDK_VENVS = ROOT / ".venvs"
EXTRAS = {
    "demo": "demo",
    "test": "demo,test,check",
    "check": "demo,test,check",
    "setup": "demo,test,check",
    "sdk": "",
    "emitter": "",
}
OLDEST_PYTHON = (3, 11)


def main(arguments: list[str]) -> int:
    """Run one of the commands above; the exit code is that of the last program run."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    commands = {"demo": demo, "test": test, "check": check, "setup": lambda _: 0, "sdk": sdk, "emitter": emitter}
    if command not in commands:
        print(__doc__)
        return 0 if command in ("help", "-h", "--help") else 2
    problem = set_up(EXTRAS[command]) if EXTRAS[command] else None
    if problem:
        print(f"run.py: {problem}", file=sys.stderr)
        return 1
    return commands[command](rest)


def demo(arguments: list[str]) -> int:
    return become(BIN / "python", "-m", "tests.end_to_end.demo", *arguments)


def test(arguments: list[str]) -> int:
    slow = "--slow" in arguments
    rest = [argument for argument in arguments if argument != "--slow"]
    pytest = (BIN / "python", "-m", "pytest", "-m", "slow" if slow else "not slow")
    if slow or rest:
        return call(*pytest, *rest)
    # Three processes share the tests, which often wait; tests/conftest.py says which stay together.
    return call(*pytest, "-n", "3")


def check(_: list[str]) -> int:
    return (
        call(BIN / "ruff", "format", "--check", ".")
        or call(BIN / "ruff", "check", ".")
        or call(BIN / "mypy")
        or call(BIN / "lint-imports")
    )


def sdk(arguments: list[str]) -> int:
    """Run the tests of one SDK file in the environment that `constraints/NAME.txt` describes."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if not is_known(name, ROOT / "constraints"):
        return 2
    folder = SDK_VENVS / name
    code = make_sdk_environment(folder, ROOT / "constraints" / f"{name}.txt")
    if code:
        return code
    kind, _, age = name.partition("-")
    tests = ROOT / "tests" / "instrumentation" / "sdks" / f"test_{kind.replace('-', '_')}.py"
    marked = ["-m", "core"] if age == "oldest" else []
    # The fixtures above tests/instrumentation need the server's dependencies, which are not installed there.
    own = ["--confcutdir", "tests/instrumentation", "-p", "no:cacheprovider"]
    return call(folder / BIN.name / "python", "-m", "pytest", *own, *marked, tests, *rest)


def emitter(arguments: list[str]) -> int:
    """Make the environment in which a foreign emitter's program runs, `.venvs/emitter-NAME`."""
    name = arguments[0] if arguments else ""
    constraints = ROOT / "constraints" / "emitters"
    if not is_known(name, constraints):
        return 2
    return make_sdk_environment(SDK_VENVS / f"emitter-{name}", constraints / f"{name}.txt")


def is_known(name: str, constraints: Path) -> bool:
    """Say whether there is an environment of that name, and on standard error which ones there are if not."""
    known = sorted(path.stem for path in constraints.glob("*.txt"))
    if name not in known:
        print(f"run.py: no environment {name!r}; there are: {', '.join(known)}", file=sys.stderr)
    return name in known


def make_sdk_environment(folder: Path, constraints: Path) -> int:
    """Make the environment, or leave it when neither its constraints nor the project's metadata have changed."""
    python = folder / BIN.name / "python"
    stamp, wanted = folder / STAMP.name, fingerprint() + hashlib.sha256(constraints.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return 0
    uv = shutil.which("uv")
    if problem := missing(uv):
        print(f"run.py: {problem}", file=sys.stderr)
        return 1
    print(f"run.py: setting up {folder.relative_to(ROOT)} ...", file=sys.stderr, flush=True)
    pip = (uv, "pip", "install", "--quiet", "--python", python) if uv else (python, "-m", "pip", "install", "--quiet")
    venv = (uv, "venv", "--quiet", "--python", sys.executable) if uv else (sys.executable, "-m", "venv")
    code = call(*venv, "--clear", folder) or call(*pip, "-r", constraints) or call(*pip, "--no-deps", "-e", ".")
    if not code:
        stamp.write_text(wanted)
    return code


def set_up(extras: str) -> str | None:
    """Make `.venv` hold the project with these extras; answers what is missing, in words, or None."""
    if sys.version_info < OLDEST_PYTHON:
        return f"Python {sys.version.split()[0]} is too old: run it with Python 3.11 or later."
    stamp = fingerprint()
    if is_set_up(stamp, extras):
        return None
    uv = shutil.which("uv")
    if problem := missing(uv):
        return problem
    print("run.py: setting up .venv ...", file=sys.stderr, flush=True)
    code = install_with_uv(uv, extras) if uv else install_with_venv(extras)
    if code:
        return f"the set-up failed with exit code {code}; its output stands above."
    STAMP.write_text(f"{stamp} {extras}")
    return None


def missing(uv: str | None) -> str | None:
    """Say, in words, what is missing to make an environment; None when nothing is."""
    if uv or importlib.util.find_spec("ensurepip"):
        return None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"this Python has no venv. Install it (Debian and Ubuntu: apt install python{version}-venv) or install uv."


def is_set_up(stamp: str, extras: str) -> bool:
    """Say whether the last set-up was of these files and brought at least these extras."""
    last_stamp, _, last_extras = (STAMP.read_text() if STAMP.is_file() else "").partition(" ")
    return last_stamp == stamp and set(extras.split(",")) <= set(last_extras.split(","))


def install_with_uv(uv: str, extras: str) -> int:
    python = str(BIN / "python")
    return call(uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV) or call(
        uv, "pip", "install", "--quiet", "--python", python, "-c", "constraints.txt", "-e", f".[{extras}]"
    )


def install_with_venv(extras: str) -> int:
    return call(sys.executable, "-m", "venv", "--clear", VENV) or call(
        BIN / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "-c", "constraints.txt", "-e", f".[{extras}]",
    )  # fmt: skip


def fingerprint() -> str:
    """Name the set-up: the interpreter, what is asked for, and the hook files that an install copies."""
    files = [
        "pyproject.toml",
        "constraints.txt",
        "instrumentation/hooks/farebox.pth",
        "instrumentation/hooks/farebox.start",
    ]
    parts = [sys.version.encode(), *((ROOT / name).read_bytes() for name in files)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def become(*command: str | Path) -> int:
    """Run a program in this one's place, so that a signal to this process ends it; on Windows, as a child."""
    if os.name != "nt":
        os.chdir(ROOT)
        os.execv(command[0], [str(part) for part in command])
    return call(*command)


def call(*command: str | Path) -> int:
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
