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
    assert row.ours, f"{row.id} ({row.asked}) has no name of ours"
    assert row.shown_by, f"{row.id} ({row.asked}) is shown by no test"
    for named in row.shown_by.split(", "):
        test = re.fullmatch(r"`(tests/(?:\w+/)*test_\w+\.py)::(test_\w+)`", named)
        assert test, f"{row.id}: {named} is not `file::test`, in backticks"
        file = ROOT / test[1]
        assert file.is_file(), f"{row.id}: {test[1]} does not exist"
        assert re.search(rf"^(async )?def {test[2]}\(", file.read_text(), re.MULTILINE), f"{row.id}: no {named}"
