"""Keeps acknowledged spans on disk until they are booked: an SQLite file with one writer thread and group commit."""

from farebox_collector.spool.file import KnownKey, QuarantineEntry
from farebox_collector.spool.spool import Snapshot, Spool

__all__ = ["KnownKey", "QuarantineEntry", "Snapshot", "Spool"]
