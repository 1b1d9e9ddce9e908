"""The collector's own log lines. Whatever a library logs, they hold nothing that came from a sender."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from farebox_collector.config import LogFormat
from farebox_collector.logs import configure_logging


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Put the process's handlers back."""
    before, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = before
    logging.root.setLevel(level)


def fails() -> None:
    try:
        raise KeyError("my prompt")
    except KeyError as cause:
        raise ValueError("cannot read my prompt") from cause


def logged(log_format: LogFormat, capsys: pytest.CaptureFixture[str]) -> str:
    """What standard error says when a library logs a fault with its traceback."""
    configure_logging("info", log_format)
    try:
        fails()
    except ValueError:
        logging.getLogger("library").exception("it failed")
    return capsys.readouterr().err


def test_a_fault_is_told_by_kind_and_place_and_not_by_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    said = logged("text", capsys)

    assert "ERROR library: it failed\nValueError in fails (test_logging.py:" in said
    assert ", after KeyError in fails (test_logging.py:" in said
    assert "my prompt" not in said


def test_a_fault_in_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = logged("json", capsys).splitlines()

    record = json.loads(line)
    assert record.keys() == {"time", "level", "logger", "message", "exception"}
    assert record["message"] == "it failed"
    assert record["exception"].startswith("ValueError in fails (test_logging.py:")
    assert "my prompt" not in line
