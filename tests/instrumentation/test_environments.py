"""The tests of each SDK hold with its newest and its oldest supported version, each in an environment of its own."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from farebox.sdks import SDKS

ROOT = Path(__file__).parents[2]
FILES = sorted(path.stem for path in (ROOT / "constraints").glob("*.txt"))
ASKED = tomllib.loads((ROOT / "constraints" / "requirements.toml").read_text())
#: Their newest versions are in `.venv`: `run.py test` runs their tests there.
MAIN = ("anthropic", "openai")
#: Its own test makes its environment: its metadata cannot be resolved.
APART = {"litellm"}
LIMIT_S = 900


def pins(file: Path) -> dict[str, str]:
    lines = [line.partition(" ")[0].partition("==") for line in file.read_text().splitlines()]
    return {name: version for name, _, version in lines}


def distribution(sdk: str) -> str:
    """The first thing that an environment asks for is the SDK itself."""
    found = re.match(r"[a-z0-9-]+", ASKED[sdk]["newest"][0])
    assert found
    return found[0]


def covers(version: str, pinned: str) -> bool:
    return pinned == version or pinned.startswith(f"{version}.")


def test_every_sdk_has_an_environment_for_its_newest_and_its_oldest_version() -> None:
    assert set(FILES) == {*ASKED, *(f"{sdk}-oldest" for sdk in ASKED)}
    assert set(ASKED) == set(SDKS) - APART


@pytest.mark.parametrize("sdk", sorted(ASKED))
def test_the_range_that_an_sdk_file_names_is_the_range_of_its_environments(sdk: str) -> None:
    oldest, newest = importlib.import_module(f"farebox.sdks.{sdk}").TESTED

    assert covers(oldest, pins(ROOT / "constraints" / f"{sdk}-oldest.txt")[distribution(sdk)])
    assert covers(newest, pins(ROOT / "constraints" / f"{sdk}.txt")[distribution(sdk)])


@pytest.mark.parametrize("sdk", MAIN)
def test_the_newest_of_the_main_sdks_are_those_of_the_ordinary_test_run(sdk: str) -> None:
    assert pins(ROOT / "constraints.txt")[sdk] == pins(ROOT / "constraints" / f"{sdk}.txt")[sdk]
    assert (ROOT / "tests" / "instrumentation" / "sdks" / f"test_{sdk}.py").is_file()


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("name", [name for name in FILES if name not in MAIN])
def test_the_tests_of_an_sdk_hold_in_its_environment(name: str) -> None:
    done = run("run.py", "sdk", name, "-q")

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout), done.stdout


@pytest.mark.slow
def test_what_is_named_as_newer_exists() -> None:
    listed = run("-m", "pytest", "--collect-only", "-q", "tests/instrumentation/sdks").stdout
    tests = set(re.findall(r"::(test_.+)$", listed, re.MULTILINE))
    known = tests | {part for test in tests for part in test.removesuffix("]").split("[", 1)}

    named = {
        name: sdk
        for sdk in ASKED
        for name in getattr(importlib.import_module(f"tests.instrumentation.sdks.test_{sdk}"), "NEWER", ())
    }

    assert {name: sdk for name, sdk in named.items() if name not in known} == {}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
