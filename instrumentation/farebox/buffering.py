"""Keep requests on disk that could not be sent, for this process and for those that come after it.

Comes in: serialized OTLP requests. Goes out: the same bytes, oldest first, until they are removed. One file is one
request, written beside its place and renamed into it, so that no reader sees half of one. Each process owns a folder
of its own and holds a lock on it; a folder whose owner is dead is taken over by whoever asks next. Senders with other
keys or endpoints never see each other's files: a span must not be booked on another sender's key.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections import deque
from pathlib import Path

from farebox import safety

SUFFIX = ".otlp"
LOCK = "lock"
MEMORY_MAX_BYTES = 16 * 1024 * 1024


class Buffer:
    """The waiting requests of one process. Not for use by several threads at once."""

    def __init__(self, folder: Path, max_bytes: int, sender_identity: str) -> None:
        digest = hashlib.blake2b(sender_identity.encode(), digest_size=8).hexdigest()
        self.root = folder
        self.shelf = folder / digest
        self.max_bytes = max_bytes
        self._own: Path | None = None
        self._lock_file: int | None = None
        self._adopted: list[tuple[Path, int]] = []
        self._count = 0
        self._memory: deque[bytes] = deque()
        self._is_disk_usable = True

    def keep(self, payload: bytes, spans: int) -> bool:
        """Store one request; False when it is refused because the bound is reached (then it is counted as lost)."""
        if self._is_disk_usable:
            if self._disk_bytes() + len(payload) > self.max_bytes:
                return self._refuse(spans, f"{self.max_bytes} bytes of {self.root}", "FAREBOX_BUFFER_MAX_BYTES")
            try:
                self._write(payload)
                return True
            except OSError as error:
                self._give_up_disk(error)
        if sum(map(len, self._memory)) + len(payload) > min(self.max_bytes, MEMORY_MAX_BYTES):
            return self._refuse(spans, "the memory for unsent spans", "FAREBOX_BUFFER_DIR to a writable folder")
        self._memory.append(payload)
        return True

    def waiting(self) -> list[Path]:
        """The stored requests on disk, oldest first, those of dead processes included."""
        self._adopt_orphans()
        folders = [folder for folder, _ in self._adopted] + ([self._own] if self._own else [])
        files = [file for folder in folders for file in _stored(folder)]
        return sorted(files, key=lambda file: file.name)

    def in_memory(self) -> deque[bytes]:
        """Requests that no disk would take, oldest first; the caller removes what it has sent."""
        return self._memory

    def remove(self, file: Path) -> None:
        with contextlib.suppress(OSError):
            file.unlink()

    def close(self) -> None:
        """Give up the folders, empty ones for good; what is left in them is taken over by the next process."""
        for folder, lock in self._adopted:
            _release(folder, lock)
        if self._own is not None and self._lock_file is not None:
            _release(self._own, self._lock_file)
        self._adopted, self._own, self._lock_file = [], None, None

    def forget_after_fork(self) -> None:
        """Drop the parent's locks without releasing them: the child closes its copies only."""
        for lock in [lock for _, lock in self._adopted] + ([self._lock_file] if self._lock_file is not None else []):
            with contextlib.suppress(OSError):
                os.close(lock)
        self._adopted, self._own, self._lock_file = [], None, None
        self._memory.clear()

    def _write(self, payload: bytes) -> None:
        if self._own is None:
            self._open_own_folder()
        assert self._own is not None
        self._count += 1
        name = f"{_now_ns():020d}-{self._count:06d}"
        draft = self._own / f"{name}.part"
        with draft.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._own / f"{name}{SUFFIX}")

    def _open_own_folder(self) -> None:
        folder = self.shelf / uuid.uuid4().hex
        folder.mkdir(parents=True, mode=0o700)
        lock = _lock(folder)
        if lock is None:
            raise OSError(f"cannot lock {folder}")
        self._own, self._lock_file = folder, lock

    def _disk_bytes(self) -> int:
        """Size of all that waits on this shelf, whoever owns it: the bound holds for all processes together."""
        total = 0
        with contextlib.suppress(OSError):
            for folder in self.shelf.iterdir():
                total += sum(_size(file) for file in _stored(folder))
        return total

    def _adopt_orphans(self) -> None:
        held = {folder for folder, _ in self._adopted} | {self._own}
        with contextlib.suppress(OSError):
            for folder in self.shelf.iterdir():
                if folder in held or not folder.is_dir():
                    continue
                lock = _lock(folder)
                if lock is None:
                    continue
                if _stored(folder):
                    self._adopted.append((folder, lock))
                else:
                    _release(folder, lock)

    def _give_up_disk(self, error: OSError) -> None:
        self._is_disk_usable = False
        safety.say_once(
            "buffering.disk",
            f"cannot write to {self.root} ({error.strerror or error}); unsent spans stay in memory only. "
            "Set FAREBOX_BUFFER_DIR to a writable folder.",
        )

    def _refuse(self, spans: int, what: str, cure: str) -> bool:
        safety.lose("buffer_full", spans, f"{what} are full of unsent spans; new ones are lost. Raise or set {cure}.")
        return False


def _stored(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [file for file in folder.iterdir() if file.suffix == SUFFIX]
    return []


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _now_ns() -> int:
    import time

    return time.time_ns()


def _lock(folder: Path) -> int | None:
    """Take the folder for this process; None when a living process has it.

    The lock ends with its process, however that dies; a process id in a name would outlive it and be given out again.
    """
    try:
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError:
        return None
    try:
        _lock_file(file)
    except OSError:
        os.close(file)
        return None
    return file


def _lock_file(file: int) -> None:
    try:
        import fcntl
    except ImportError:
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]  # Windows only
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _release(folder: Path, lock: int) -> None:
    """Give a folder back; an empty one goes away while the lock is still held, so that nobody adopts it half gone."""
    if not _stored(folder):
        with contextlib.suppress(OSError):
            for leftover in folder.iterdir():
                leftover.unlink()
            folder.rmdir()
    with contextlib.suppress(OSError):
        os.close(lock)
