"""The rows that are owed: each stands in docs/feature-rows.md with our name for it and the test that shows it.

The pages' rows (U) are still to come and are not asked for here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
OWED = {"D": 75, "C": 32, "P": 30, "L": 15, "A": 34, "U": 38, "O": 14}


class Row(NamedTuple):
    id: str
    asked: str
    ours: str
    shown_by: str


def rows() -> list[Row]:
    lines = (ROOT / "docs" / "feature-rows.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [Row(cell[0], cell[2], cell[3], cell[4]) for cell in cells if re.fullmatch(r"[A-Z]+\d+", cell[0])]


def test_every_owed_row_stands_in_the_list() -> None:
    assert [row.id for row in rows()] == [f"{kind}{number:02}" for kind in OWED for number in range(1, OWED[kind] + 1)]


@pytest.mark.parametrize("row", [row for row in rows() if not row.id.startswith("U")], ids=lambda row: row.id)
def test_an_owed_row_is_shown_by_a_test(row: Row) -> None:
    named = re.findall(r"`(tests/[\w/.\-]+)(?:::(\w+))?`", row.shown_by)

    assert row.ours, f"{row.id} ({row.asked}) has no name of ours"
    assert named or row.shown_by.startswith("`run.py "), f"{row.id} ({row.asked}) is shown by no test"
    for path, test in named:
        assert (ROOT / path).exists(), f"{row.id}: {path} does not exist"
        assert not test or re.search(rf"def {test}\b", (ROOT / path).read_text()), f"{row.id}: {path} has no {test}"
