"""The price snapshots that ship with farebox, so that a first start needs no network.

Each snapshot is a catalog file, gzip-compressed, with its licence beside it and a line in `manifest.json` that says
which revision it is: LiteLLM's as published, genai-prices' data extracted from its wheel (`make_snapshots`). Goes out:
the exact bytes, checked against the manifest.
"""

from __future__ import annotations

import gzip
from hashlib import sha256
from importlib.resources import files
from typing import Final, Literal, TypeAlias

import msgspec

SnapshotSource: TypeAlias = Literal["litellm", "genai-prices"]

_SNAPSHOTS: Final = "farebox_ledger.catalog.snapshots"


class Snapshot(msgspec.Struct, frozen=True):
    """A shipped catalog: where it comes from, its revision, the SHA-256 of the content, its date."""

    source: SnapshotSource
    revision: str
    file: str
    sha256: str
    date: str
    origin: str
    licence: str


def shipped_snapshots() -> list[Snapshot]:
    """List the snapshots of this version of farebox."""
    manifest = files(_SNAPSHOTS).joinpath("manifest.json").read_bytes()
    return msgspec.json.decode(manifest, type=list[Snapshot])


def snapshot_content(snapshot: Snapshot) -> bytes:
    """Answer the content of a snapshot, uncompressed.

    Raises:
        ValueError: the installed file is not the one that the manifest names; the installation is damaged.
    """
    content = gzip.decompress(files(_SNAPSHOTS).joinpath(snapshot.file).read_bytes())
    found = sha256(content).hexdigest()
    if found != snapshot.sha256:
        raise ValueError(
            f"{snapshot.file} is damaged: its SHA-256 is {found}, not {snapshot.sha256}; reinstall farebox"
        )
    return content
