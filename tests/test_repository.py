"""What must hold for the files of the repository themselves."""

from __future__ import annotations

import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = ROOT / "instrumentation" / "farebox" / "_version.py"


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listing.split("\0") if name]


CONSTRAINTS = [ROOT / "constraints.txt", *sorted((ROOT / "constraints").glob("*.txt"))]


@pytest.mark.parametrize("file", CONSTRAINTS, ids=lambda file: file.name)
def test_constraints_hold_names_and_versions_only(file: Path) -> None:
    lines = file.read_text().splitlines()

    unexpected = [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==[0-9a-z.+]+( ; [^:@]+)?", line)]

    assert lines
    assert unexpected == []


@pytest.mark.parametrize("package", ["farebox", "farebox_collector", "farebox_ledger", "farebox_api"])
def test_D73_a_package_says_that_it_has_types(package: str) -> None:
    (folder,) = [path for path in ROOT.glob(f"*/{package}") if path.is_dir()]
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]

    assert (folder / "py.typed").is_file()
    assert (settings["strict"], package in settings["packages"]) == (True, True)


def test_O05_the_gates_are_format_lint_types_floors_and_all_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.syspath_prepend(ROOT)
    run = importlib.import_module("run")
    monkeypatch.setattr(run, "call", lambda *command: asked.append(" ".join([Path(command[0]).name, *command[1:]])))

    run.check([])

    assert asked == ["ruff format --check .", "ruff check .", "mypy", "lint-imports"]
    gates = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("python3 run.py")]
    assert gates == ["python3 run.py check", "python3 run.py test", "python3 run.py test --slow"]


def test_O07_the_change_log_begins_with_the_version_that_is_built() -> None:
    (version,) = re.findall(r'^__version__ = "([^"]+)"', VERSION.read_text(), re.MULTILINE)

    newest = re.findall(r"^## ([^,\n]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]

    assert version.startswith(newest)
    assert {"architecture.md", "operations.md", "feature-rows.md"} <= {path.name for path in (ROOT / "docs").iterdir()}


def test_every_feature_row_is_listed_once() -> None:
    ids = re.findall(r"^\| ([A-Z]\d\d) \|", (ROOT / "docs" / "feature-rows.md").read_text(), re.MULTILINE)

    assert len(ids) == len(set(ids)) == 238


def test_every_relative_link_in_the_documents_leads_to_a_file() -> None:
    documents = [path for path in tracked_files() if path.suffix == ".md"]

    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / target).exists()
    ]

    assert broken == []
