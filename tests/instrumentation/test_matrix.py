"""The matrix of SDKs in the docs is what the tests of this session have really called. Runs last, see `conftest`."""

from __future__ import annotations

import os

import pytest

from tests.instrumentation import matrix
from tests.instrumentation.cells import SEEN, Cell

WRITE = "WRITE_SDK_MATRIX"


@pytest.mark.parametrize("mark", ["fast", pytest.param("slow", marks=pytest.mark.slow)])
def test_the_page_claims_what_the_tests_have_called(pytestconfig: pytest.Config, mark: str) -> None:
    """A run of some tests may show no more than the page claims; a run of all tests must show all of it."""
    claimed = matrix.cells_of(matrix.PAGE.read_text()) if matrix.PAGE.is_file() else set()
    complete = {cell.sdk for cell in claimed | SEEN if matrix.is_complete(pytestconfig, cell.sdk)}
    if os.environ.get(WRITE) == "1":
        claimed = SEEN | {cell for cell in claimed if cell.sdk not in complete}
        matrix.PAGE.write_text(matrix.page(claimed))

    unclaimed = sorted(SEEN - claimed)
    unproven = sorted(cell for cell in claimed - SEEN if cell.sdk in complete)
    assert (unclaimed, unproven) == ([], []), f"set {WRITE}=1 and run the tests of tests/instrumentation again"


def test_the_page_is_written_from_its_cells() -> None:
    text = matrix.PAGE.read_text()

    assert matrix.page(matrix.cells_of(text)) == text


def test_a_page_says_what_is_untested_and_what_is_not_offered() -> None:
    cells = {
        Cell("groq", "chat", "sync", "completed"),
        Cell("groq", "chat", "sync", "error"),
        Cell("groq", "chat", "async stream", "cancelled"),
        Cell("groq", "embeddings", "sync", "completed"),
    }

    text = matrix.page(cells)

    assert "| groq | chat | c f | **untested** | **untested** | x **c?** **e?** **d?** **f?** |\n" in text
    assert "| groq | embeddings | c | **untested** | – | – |\n" in text
    assert matrix.cells_of(text) == cells
