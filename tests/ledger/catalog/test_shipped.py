from __future__ import annotations

import gzip
from importlib.resources import files

import msgspec
import pytest

from farebox_ledger.catalog import shipped_snapshots, snapshot_content

FOLDER = files("farebox_ledger.catalog.snapshots")


def test_each_snapshot_is_the_file_that_the_manifest_names() -> None:
    for snapshot in shipped_snapshots():
        assert len(snapshot_content(snapshot)) > 400_000
        assert snapshot.revision


def test_a_licence_stands_beside_each_snapshot() -> None:
    for snapshot in shipped_snapshots():
        licence = FOLDER.joinpath(f"{snapshot.source}.LICENSE.txt").read_text()
        assert "MIT License" in licence
        assert "Copyright (c)" in licence


def test_a_snapshot_is_compressed_the_same_way_on_every_machine() -> None:
    for snapshot in shipped_snapshots():
        compressed = FOLDER.joinpath(snapshot.file).read_bytes()
        assert compressed[4:8] == b"\0\0\0\0", "the header carries a time"
        assert gzip.decompress(compressed) == snapshot_content(snapshot)


def test_a_damaged_snapshot_is_not_read() -> None:
    damaged = msgspec.structs.replace(shipped_snapshots()[0], sha256="0" * 64)

    with pytest.raises(ValueError, match="is damaged"):
        snapshot_content(damaged)
