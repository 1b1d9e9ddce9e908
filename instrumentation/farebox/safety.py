"""Keep our faults out of the app: each is logged once per place, counted, and never raised.

Everything that runs inside an app's call does so between `try` and `except Exception: report(place)`. Exceptions of the
app pass untouched, those that are no `Exception` (cancellation, Ctrl-C, generator exit) included: ours is only the code
that reads and records.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

#: How often each place has failed in this process; `farebox doctor` and tests read it.
faults: Counter[str] = Counter()

#: How often each kind of span was given up, by reason.
losses: Counter[str] = Counter()


def report(place: str) -> None:
    """Count the exception being handled, and log it with its traceback the first time that `place` fails."""
    faults[place] += 1
    if faults[place] == 1:
        _logger().warning(
            "farebox: metering failed in %s; the call itself is not affected. Further failures there are only counted.",
            place,
            exc_info=True,
        )


def say_once(place: str, message: str) -> None:
    """Log one line about a condition that the reader can cure; later calls for the same place stay silent."""
    faults[place] += 1
    if faults[place] == 1:
        _logger().warning("farebox: %s", message)


def lose(reason: str, count: int, message: str) -> None:
    """Count spans that will never arrive, and say so the first time."""
    losses[reason] += count
    if losses[reason] == count:
        _logger().warning("farebox: %s", message)


def _logger() -> Logger:
    # Where nothing goes wrong, `logging` need not be imported.
    import logging

    return logging.getLogger("farebox")
