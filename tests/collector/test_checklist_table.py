"""The table of the OTLP checklist names a test for each of the 72 points, and each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "docs" / "otlp-checklist.md"
_ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`([^`:]+\.py)::(\w+)`")


def shown_points() -> dict[int, list[tuple[str, str]]]:
    return {int(number): _TEST.findall(shown) for number, _, shown in _ROW.findall(TABLE.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("number", range(1, 73))
def test_each_point_names_tests_that_exist(number: int) -> None:
    tests = shown_points()[number]

    assert tests
    for file, name in tests:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


def test_there_are_seventy_two_points_and_each_numbered_test_is_in_its_row() -> None:
    points = shown_points()
    source = (ROOT / "tests" / "collector" / "test_checklist.py").read_text(encoding="utf-8")
    numbered = {name: int(number) for name, number in re.findall(r"^def (test_point_(\d\d)_\w+)", source, re.MULTILINE)}

    assert sorted(points) == list(range(1, 73))
    assert len(numbered) > 60
    for name, number in numbered.items():
        assert name in {test for _, test in points[number]}
