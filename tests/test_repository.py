"""What must hold for the files of the repository themselves."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
