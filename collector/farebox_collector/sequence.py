"""Which spans never came: each metered process numbers its spans from 1, and gaps between the numbers are losses.

Comes in: the numbers of acknowledged spans, by process. Goes out: how many are missing, and one log line for a process
whose gaps stay. Order does not matter and repetitions count once; a gap closes when its spans come after all, such as
from the sender's disk after an outage. Nothing here decides about a span, and everything is bounded: what was forgotten
is given up, and counted.

What a process lost before the first and after the last span that this collector has seen cannot be known: a collector
that is younger than the process must not take for lost what went to its predecessor. For the same reason the numbers
of a process that sends to several collectors say nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple
from uuid import UUID

logger = logging.getLogger(__name__)

MAX_PROCESSES: Final = 4096
MAX_GAPS: Final = 64
"""Of one process; when there are more, the lowest is given up."""
MAX_JUMP: Final = 10_000_000
"""More than a sender can lose in one piece: numbers that far from all others begin anew."""
PATIENCE_S: Final = 300.0
"""How long a gap stays open before it is spoken of. Senders try again every 30 s at the latest."""


class Standing(NamedTuple):
    """What is known now: the missing numbers of all remembered processes, and what was given up since the start."""

    processes: int
    missing: int
    given_up: int


class Gap(NamedTuple):
    """Numbers that have not come, the first and the last included, and since when they are missed."""

    first: int
    last: int
    since_s: float

    @property
    def size(self) -> int:
        return self.last - self.first + 1


class Process:
    """The numbers of one process: the lowest and the highest that came, and the gaps between, in order."""

    __slots__ = ("gaps", "highest", "is_told", "lowest")

    def __init__(self, number: int) -> None:
        self.lowest = self.highest = number
        self.gaps: list[Gap] = []
        self.is_told = False

    @property
    def missing(self) -> int:
        return sum(gap.size for gap in self.gaps)

    def take(self, number: int, now_s: float) -> int:
        """Take a number that came; answers how many missing ones are given up for it."""
        if number == self.highest + 1:
            self.highest = number
            return 0
        if self.lowest <= number <= self.highest:
            self._close(number)
            return self._shed()
        return self._extend(number, now_s)

    def _extend(self, number: int, now_s: float) -> int:
        """Take a number outside of what came so far; what lies between is a gap."""
        is_above = number > self.highest
        distance = number - self.highest if is_above else self.lowest - number
        if distance > MAX_JUMP:
            given_up = self.missing
            self.lowest = self.highest = number
            self.gaps.clear()
            return given_up
        if is_above:
            self.gaps.append(Gap(self.highest + 1, number - 1, now_s))
            self.highest = number
        else:
            if distance > 1:
                self.gaps.insert(0, Gap(number + 1, self.lowest - 1, now_s))
            self.lowest = number
        return self._shed()

    def _close(self, number: int) -> None:
        """Take a number out of the gap that it stands in; one that stands in none has come before."""
        if not self.gaps:
            return
        index = bisect_right(self.gaps, number, key=lambda gap: gap.first) - 1
        if index < 0 or number > self.gaps[index].last:
            return
        first, last, since_s = self.gaps[index]
        parts = (Gap(first, number - 1, since_s), Gap(number + 1, last, since_s))
        self.gaps[index : index + 1] = [part for part in parts if part.size]

    def _shed(self) -> int:
        return self.gaps.pop(0).size if len(self.gaps) > MAX_GAPS else 0


class Sequences:
    """The numbers of all processes, those heard of least recently forgotten first; may be used from any thread."""

    def __init__(self, max_processes: int = MAX_PROCESSES, clock: Callable[[], float] = time.monotonic) -> None:
        """Remember at most so many processes; `clock` tells seconds, from anywhere."""
        self._max_processes = max_processes
        self._clock = clock
        self._processes: dict[tuple[str, str], Process] = {}
        self._given_up = 0
        self._lock = threading.Lock()

    def note(self, org: str, instance: str, numbers: Iterable[int]) -> None:
        """Take the numbers of spans that were acknowledged.

        `instance` is what the process calls itself. Names that are no UUID, which our own senders never use, are not
        followed: whatever is remembered and logged has a bounded size and is nobody's text.
        """
        now_s = self._clock()
        with self._lock:
            key = (org, instance)
            process = self._processes.pop(key, None)
            for number in numbers:
                if process is None:
                    if not _is_uuid(instance):
                        return
                    process = Process(number)
                else:
                    self._given_up += process.take(number, now_s)
            if process is not None:
                self._processes[key] = process
                self._tell(key, process, now_s)
            while len(self._processes) > self._max_processes:
                self._forget()

    def standing(self) -> Standing:
        """Count what is missing, and speak of gaps that have stayed."""
        now_s = self._clock()
        with self._lock:
            missing = 0
            for key, process in self._processes.items():
                if process.gaps:
                    missing += process.missing
                    self._tell(key, process, now_s)
            return Standing(len(self._processes), missing, self._given_up)

    def _forget(self) -> None:
        """Forget the process that was not heard of for longest."""
        key = next(iter(self._processes))
        process = self._processes.pop(key)
        self._given_up += process.missing

    def _tell(self, key: tuple[str, str], process: Process, now_s: float) -> None:
        """Say once of a process that spans of it are missing, when some have been for a while."""
        if process.is_told or not process.gaps:
            return
        if now_s - min(gap.since_s for gap in process.gaps) < PATIENCE_S:
            return
        process.is_told = True
        org, instance = key
        logger.warning("%d spans of organization %s, process %s, have not come", process.missing, org, instance)


def _is_uuid(text: str) -> bool:
    """Whether a text is a UUID as it is usually written, and nothing else."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
