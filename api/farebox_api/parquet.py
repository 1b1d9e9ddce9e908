"""Usage rows as Parquet, row group by row group. pyarrow comes with the extra `parquet` and is imported when asked for.

Answers come in, the bytes of one file go out in pieces. Values stand as the list writes them, so that no decimal
passes through a float.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from io import RawIOBase
from typing import Any, Final

import msgspec

from farebox_api.errors import MissingExtra
from farebox_api.schemas.usage import UsageAnswer

_GROUP_ROWS: Final = 5_000
_FIELDS: Final = UsageAnswer.__struct_fields__
_JSON_FIELDS: Final = frozenset(("metadata", "cache_write_input_tokens", "raw_usage"))


class _Outbox(RawIOBase):
    """A file that keeps what was written until it is taken."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += memoryview(data)
        return len(memoryview(data))

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


def require_parquet() -> None:
    """Refuse where the extra is not installed.

    Raises:
        MissingExtra: names it.
    """
    try:
        found = find_spec("pyarrow")
    except ValueError:  # what `find_spec` says of a module that is switched off
        found = None
    if found is None:
        raise MissingExtra("parquet")


def parquet_pieces(parts: Iterable[list[UsageAnswer]]) -> Iterator[bytes]:
    """Write answers as one Parquet file; at most one row group is held."""
    from pyarrow import Table
    from pyarrow.parquet import ParquetWriter

    outbox, schema = _Outbox(), _schema()
    with ParquetWriter(outbox, schema) as writer:
        held: list[UsageAnswer] = []
        for part in parts:
            held += part
            if len(held) >= _GROUP_ROWS:
                writer.write_table(Table.from_pylist([_record(answer) for answer in held], schema))
                held = []
                yield outbox.take()
        if held:
            writer.write_table(Table.from_pylist([_record(answer) for answer in held], schema))
    yield outbox.take()


def _schema() -> Any:
    import pyarrow

    kinds = {"int": pyarrow.int64(), "Count": pyarrow.int64(), "bool": pyarrow.bool_()}
    lists = {"tags": pyarrow.list_(pyarrow.string())}
    return pyarrow.schema((name, lists.get(name) or kinds.get(_kind(name), pyarrow.string())) for name in _FIELDS)


def _kind(name: str) -> str:
    return str(UsageAnswer.__annotations__[name]).removesuffix(" | None")


def _record(answer: UsageAnswer) -> dict[str, Any]:
    values = {name: getattr(answer, name) for name in _FIELDS}
    for name in _JSON_FIELDS & values.keys():
        values[name] = None if values[name] is None else msgspec.json.encode(values[name]).decode()
    return values
