"""How the collector logs: one line per event, as text or as JSON, and never anything that came from a sender."""

from __future__ import annotations

import json
import logging
import time
import traceback
from typing import Any, Final

from farebox_collector.config import LogFormat, LogLevel

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MAX_CAUSES: Final = 5


def configure_logging(level: LogLevel, log_format: LogFormat) -> None:
    """Send the process's logs to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _text_formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # alembic tells each of its steps, uvicorn each malformed request line; neither is news to an operator.
    for name in ("alembic", "uvicorn"):
        logging.getLogger(name).setLevel(logging.ERROR)


def where(error: BaseException) -> str:
    """Say in one line what failed and where. The error's own text stays out: it may quote what a sender sent."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    path = " < ".join(
        f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in reversed(frames)
    )
    return f"{type(error).__name__} in {path}"


def _text_formatter() -> logging.Formatter:
    formatter = _TextFormatter(_TEXT, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter


class _TextFormatter(logging.Formatter):
    """Writes the faults that libraries log with their records in one line, and without their texts."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is logging's
        return _whole_story(ei[1])


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            line["exception"] = _whole_story(error)
        return json.dumps(line)


def _whole_story(error: BaseException) -> str:
    """Say where an error came from and what led to it."""
    told: list[str] = []
    current: BaseException | None = error
    while current is not None and len(told) < MAX_CAUSES:
        told.append(where(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return ", after ".join(told)
