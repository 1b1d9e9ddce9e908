"""What docs/instrumentation.md names exists: variables, files, links, and the options of its command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from farebox.attribution import NAMES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "instrumentation.md"
TEXT = PAGE.read_text()
README = (ROOT / "README.md").read_text()
APP_SIDE = README.partition("## Environment, where the app runs")[2].partition("## Environment, where the server runs")[
    0
]
VARIABLE = re.compile(r"FAREBOX_[A-Z_]+[A-Z]")


def test_every_variable_of_the_page_stands_in_the_readme_and_is_read_by_the_app_side() -> None:
    named = set(VARIABLE.findall(TEXT))
    read = {name for file in (ROOT / "instrumentation").rglob("*.p*") for name in VARIABLE.findall(_text(file))}

    assert named
    assert named - set(VARIABLE.findall(APP_SIDE)) == set()
    assert named - read == set()


def test_the_readme_names_every_variable_of_the_app_side() -> None:
    source = (ROOT / "instrumentation" / "farebox" / "config.py").read_text()

    assert set(VARIABLE.findall(source)) - set(VARIABLE.findall(APP_SIDE)) == set()


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    broken = []
    for link in links:
        file, _, heading = link.partition("#")
        target = (PAGE.parent / file).resolve()
        if not target.is_file() or (heading and heading not in _headings(target.read_text())):
            broken.append(link)

    assert len(links) >= 4
    assert broken == []
    assert "(docs/instrumentation.md)" in README


def test_the_names_that_may_travel_are_those_of_the_page() -> None:
    listed = TEXT.partition("- Names: ")[2].partition(";")[0]

    assert re.findall(r"`(\w+)`", listed) == list(NAMES)


@pytest.mark.parametrize("option", re.findall(r"\[(--[a-z]+)\]", TEXT))
def test_the_benchmark_has_the_options_that_the_page_names(option: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "instrumentation.py"), "--help"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert "benchmarks/instrumentation.py" in TEXT
    assert option in told


def _text(file: Path) -> str:
    return file.read_text() if file.suffix in (".py", ".pth") else ""


def _headings(text: str) -> set[str]:
    """Headings as links name them."""
    lines = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}
