"""Is the collector alive, ready, and is anything wrong? One report behind /readyz and grpc.health.v1.

A database that is away does not make the collector unready: it keeps acknowledging into the spool and says degraded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from farebox_collector.spool import Spool

MIN_FREE_BYTES: Final = 16 * 2**20
"""Below this the disk of the spool counts as full: the next commits would fail."""


class Report(msgspec.Struct, frozen=True):
    """`degraded` says in words what does not work although spans are taken; `not_ready` why none should be sent."""

    status: Literal["ready", "degraded", "not_ready"]
    not_ready: list[str]
    degraded: list[str]
    pending_spans: int
    pending_bytes: int
    quarantined_spans: int

    @property
    def is_ready(self) -> bool:
        return self.status != "not_ready"


class Health:
    """Gathers what the parts say about themselves."""

    def __init__(self, spool: Spool, degradations: Sequence[Callable[[], str | None]]) -> None:
        """Each of `degradations` answers one sentence while something does not work, else None."""
        self._spool = spool
        self._degradations = degradations
        self.is_draining = False

    def report(self) -> Report:
        """Look at everything now."""
        snapshot = self._spool.snapshot()
        not_ready: list[str] = []
        if self.is_draining:
            not_ready.append("the collector is shutting down")
        if not snapshot.is_writable:
            not_ready.append("the spool cannot be written")
        elif shutil.disk_usage(self._spool.folder).free < MIN_FREE_BYTES:
            not_ready.append("the disk of the spool is full")
        degraded = [text for text in (degradation() for degradation in self._degradations) if text is not None]
        if snapshot.pending_bytes > snapshot.max_bytes * 0.8:
            degraded.append(f"the spool is {100 * snapshot.pending_bytes // snapshot.max_bytes} % full")
        return Report(
            "not_ready" if not_ready else "degraded" if degraded else "ready",
            not_ready,
            degraded,
            snapshot.pending_spans,
            snapshot.pending_bytes,
            snapshot.counters.get("quarantined", 0),
        )

    @property
    def is_serving(self) -> bool:
        """The short answer, for grpc.health.v1."""
        return self.report().is_ready
