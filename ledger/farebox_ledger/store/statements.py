"""Pieces of SQL text for the hot statements, which go to the driver as they are, with tuples (docs/adr/007)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Select, Text, select
from sqlalchemy.sql.schema import Table

PROBE_SIZE: Final = 512
"""The most values that one statement looks up; SQLite's planner and PostgreSQL's parser stay quick."""

_Item = TypeVar("_Item")


def marks(count: int, database: str) -> str:
    """Write that many parameter marks in the driver's style."""
    return ", ".join(["?" if database == "sqlite" else "%s"] * count)


def among(column: str, items: Sequence[_Item], database: str) -> tuple[str, Sequence[Any]]:
    """Write that a column holds one of some items: (condition, parameters).

    SQLite's list is padded to a power of two with the last item, so that few different statements are ever prepared.
    """
    if database != "sqlite":
        return f"{column} = ANY(%s)", [list(items)]
    missing = (1 << (len(items) - 1).bit_length()) - len(items)
    return f"{column} IN ({marks(len(items) + missing, database)})", [*items, *([items[-1]] * missing)]


def quoted(names: Iterable[str]) -> str:
    """Write a list of column names."""
    return ", ".join(f'"{name}"' for name in names)


def unnested(columns: Iterable[Column[Any]]) -> str:
    """Write for PostgreSQL the rows that arrays hold, one array for each of these columns.

    Where arrays are a SELECT's columns the server takes them apart side by side; in FROM it would first lay each of
    them out as a table of its own.
    """
    kinds = {BigInteger: "bigint", Integer: "int", LargeBinary: "bytea", Text: "text"}
    return f"SELECT {', '.join(f'unnest(%s::{kinds[type(column.type)]}[])' for column in columns)}"


def array_text(items: Sequence[Any]) -> str:
    """Write numbers or clean texts as an array of PostgreSQL, a tenth of the work of the driver's conversion.

    Clean texts hold no NUL, which therefore parts them while all of them are quoted at once.
    """
    if not isinstance(items[0], str):
        return f"{{{','.join(map(str, items))}}}"
    quoted_items = "\0".join(items).replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","')
    return f'{{"{quoted_items}"}}'


def chunks(items: Sequence[_Item], size: int = PROBE_SIZE) -> Iterator[Sequence[_Item]]:
    """Cut a sequence into parts of a bounded size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def organizations_in(table: Table) -> Select[int]:
    """List the organizations that have rows in a table by skipping from key to key, one look-up each.

    Statements over all organizations go through it, so that each organization's index is used in turn and no table is
    walked.
    """
    org_id = table.c.org_id
    first = select(org_id.label("org_id")).order_by(org_id).limit(1).subquery()
    skip = select(first.c.org_id).cte(f"{table.name}_organizations", recursive=True)
    following = select(org_id).where(org_id > skip.c.org_id).order_by(org_id).limit(1).scalar_subquery()
    skip = skip.union_all(select(following).where(skip.c.org_id.is_not(None)))
    return select(skip.c.org_id).where(skip.c.org_id.is_not(None))
