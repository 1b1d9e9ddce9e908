"""One owner per file: an advisory lock that the operating system gives back when the process dies, however it dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from farebox_collector.errors import SpoolInUse


class FileLock:
    """Holds an exclusive lock on a file until closed."""

    def __init__(self, path: Path, *, owned: str) -> None:
        """Take the lock; `owned` says in the error message what it guards.

        Raises:
            SpoolInUse: another process (or another collector of this process) holds it.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._descriptor)
        except OSError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise SpoolInUse(
                f"{owned} belongs to another running collector (process {holder or 'unknown'}); "
                "stop it, or give this one its own FAREBOX_SPOOL_DIR and database"
            ) from None
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    def close(self) -> None:
        """Give the lock back; the empty file stays, since removing it would race with the next owner."""
        os.truncate(self._descriptor, 0)
        os.close(self._descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        # Windows locks byte ranges, also against reading: the lock stands far behind the process id.
        os.lseek(descriptor, 4096, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
