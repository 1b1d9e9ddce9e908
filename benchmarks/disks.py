"""A disk that is as slow as one asks for, and that remembers what it was asked to make durable.

A few lines of C stand in front of `fsync` and `fdatasync` of a process (LD_PRELOAD): they wait, do what was asked, and
write down the file, which takes some ten microseconds. Needs Linux and a C compiler; otherwise there is no such disk.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int slowed(const char *name, int fd) {
    char link[64], file[4096];
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int delay_us = atoi(getenv("SYNC_DELAY_US"));
    if (delay_us) usleep((useconds_t)delay_us);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, file, sizeof file - 1);
    int notes = open(getenv("SYNC_NOTES"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (size >= 0 && notes >= 0) {
        file[size] = '\n';
        if (write(notes, file, (size_t)size + 1) < 0) perror("SYNC_NOTES");
    }
    close(notes);
    return real(fd);
}

int fsync(int fd) { return slowed("fsync", fd); }
int fdatasync(int fd) { return slowed("fdatasync", fd); }
"""


class SlowDisk(msgspec.Struct, frozen=True):
    """The disk as processes see it that are started with its environment."""

    library: Path
    notes: Path
    delay_ms: int

    @property
    def environment(self) -> dict[str, str]:
        """What a process has to be started with."""
        delay_us = str(self.delay_ms * 1000)
        return {"LD_PRELOAD": str(self.library), "SYNC_DELAY_US": delay_us, "SYNC_NOTES": str(self.notes)}

    def syncs_of(self, file_name: str) -> int:
        """Count how often a file of that name was made durable so far."""
        if not self.notes.exists():
            return 0
        return sum(line.rpartition("/")[2] == file_name for line in self.notes.read_text().splitlines())


def slow_disk(folder: Path, delay_ms: int) -> SlowDisk | None:
    """Make the disk; None where that cannot be done."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(_SOURCE)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return SlowDisk(library, folder / f"syncs-{delay_ms}", delay_ms)
