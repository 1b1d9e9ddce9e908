"""What an administrator decides about prices: things with an id for life whose terms are dated.

An override, an alias and a multiplier work alike: their rows are made, found, changed, ended and deleted here, in the
caller's transaction. What their terms say is the business of `overrides`, `aliases` and `multipliers`. Nothing is
rewritten: a change closes or withdraws terms and opens new ones; deleted things keep the terms that they had.

A thing belongs to the organization of the scope that made it, or to everybody when that was no organization's.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Connection, Row, Table, insert, or_, select, tuple_, update

from farebox_ledger.errors import Conflict, InvalidInput, NotFound, Outdated
from farebox_ledger.pricing.dating import Redating, Span, checked_range, ended, ended_anew, replaced
from farebox_ledger.store.catalog_state import lock_catalog, raise_catalog_version
from farebox_ledger.store.scope import OrgScope, Scope, within

Opening: TypeAlias = Callable[[str, int | None, int | None], str]
"""Writes what a new term says: from the id of the thing, its begin and its end; answers the id of the term."""

Position: TypeAlias = tuple[int, str]
"""Where a list goes on: (created_at_us, id) of the last thing that the caller has."""

MAX_NAME: Final = 256
MAX_NOTES: Final = 2000


class Kind(msgspec.Struct, frozen=True):
    """One kind of thing: its name in messages, the prefix of its ids, its table, and those of its terms.

    `dates` is the table where the begin and the end of a term stand: `terms` itself, or `prices`.
    """

    noun: str
    prefix: str
    subjects: Table
    terms: Table
    dates: Table


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What every administered thing has. `org_id` None is everybody's; `row_version` counts its changes from 1."""

    id: str
    org_id: int | None
    notes: str | None
    is_active: bool
    row_version: int
    created_at_us: int
    updated_at_us: int


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """What a thing says for a span of time. A withdrawn term never came to hold, or was taken back as a whole."""

    id: str
    effective_from_us: int | None
    effective_to_us: int | None
    created_at_us: int
    withdrawn_at_us: int | None

    @property
    def span(self) -> Span:
        """When it holds, had it not been withdrawn."""
        return Span(self.id, self.effective_from_us, self.effective_to_us)


class New(msgspec.Struct, frozen=True, kw_only=True):
    """A thing to be made: whose it is, the key of its names, when its first term holds, and the columns of its own."""

    org_id: int | None
    subject_key: str
    opened: tuple[int | None, int | None]
    at_us: int
    values: dict[str, Any]
    notes: str | None = None
    is_active: bool = True


AnyTerm = TypeVar("AnyTerm", bound=Term)


class Redated(msgspec.Struct, frozen=True, kw_only=True):
    """When a change takes effect, and for how long; what is not said stays.

    A change of terms takes effect now unless `effective_from_us` says otherwise; None means since ever, and what the
    thing said before is then taken back.
    """

    effective_from_us: int | UnsetType | None = UNSET
    effective_to_us: int | UnsetType | None = UNSET
    is_active: bool | UnsetType = UNSET
    notes: str | UnsetType | None = UNSET


def now_us() -> int:
    """Answer the present in microseconds since 1970 in UTC."""
    return time.time_ns() // 1000


def new_id(prefix: str) -> str:
    """Make an id that nothing else has."""
    return f"{prefix}_{secrets.token_hex(12)}"


def owner(scope: Scope) -> int | None:
    """Answer whose a thing becomes that is made in a scope: the organization's, or None for everybody's."""
    return scope.org_id if isinstance(scope, OrgScope) else None


def subject_key(*parts: int | str | None) -> str:
    """Write what may stand only once at a time: owner and names."""
    return msgspec.json.encode(parts).decode()


def checked_name(field: str, text: str, *, most: int = MAX_NAME) -> str:
    """Answer a name without the spaces around it.

    Raises:
        InvalidInput: it is empty, too long, or holds characters that cannot be seen.
    """
    name = text.strip()
    if not name:
        raise InvalidInput(field, "expected a name, got nothing")
    if len(name) > most:
        raise InvalidInput(field, f"expected at most {most} characters, got {len(name)}")
    if not name.isprintable():
        raise InvalidInput(field, "expected printable characters")
    return name


def checked_notes(text: str | None) -> str | None:
    """Answer a note that can be kept.

    Raises:
        InvalidInput: it is too long, or holds a NUL character, which no database keeps.
    """
    if text is not None and len(text) > MAX_NOTES:
        raise InvalidInput("notes", f"expected at most {MAX_NOTES} characters, got {len(text)}")
    if text is not None and "\0" in text:
        raise InvalidInput("notes", "holds a NUL character")
    return text


def subject_fields(row: Row[Any]) -> dict[str, Any]:
    """Read what every administered thing has, for the constructor of its struct."""
    return {
        name: bool(row.is_active) if name == "is_active" else getattr(row, name) for name in Subject.__struct_fields__
    }


def find(connection: Connection, scope: Scope, table: Table, noun: str, identity: str) -> Row[Any]:
    """Find a thing that the scope sees: its own and everybody's.

    Raises:
        NotFound: it does not exist, was deleted, or is another organization's.
    """
    found = connection.execute(
        select(table).where(table.c.id == identity, table.c.deleted_at_us.is_(None), _visible(scope, table))
    ).one_or_none()
    if found is None:
        raise NotFound(noun, identity)
    return found


def find_own(
    connection: Connection, scope: Scope, table: Table, noun: str, identity: str, *, expected_version: int | None
) -> Row[Any]:
    """Find a thing that the scope may change: an organization's own, for the system any.

    Raises:
        NotFound: it does not exist, or not for this scope.
        Outdated: it is not at the version that the caller knows (None: whatever it is).
    """
    row = find(connection, scope, table, noun, identity)
    if isinstance(scope, OrgScope) and row.org_id != scope.org_id:
        raise NotFound(noun, identity)
    if expected_version is not None and row.row_version != expected_version:
        raise Outdated(noun, identity, expected=expected_version, current=row.row_version)
    return row


def find_all(
    connection: Connection,
    scope: Scope,
    table: Table,
    *conditions: ColumnElement[bool],
    limit: int,
    after: Position | None,
) -> Sequence[Row[Any]]:
    """List the things that the scope sees, oldest first.

    For an organization its own and everybody's are read apart, each by its index, and merged.
    """
    order = (table.c.created_at_us, table.c.id)
    listed = select(table).where(table.c.deleted_at_us.is_(None), *conditions)
    if after is not None:
        listed = listed.where(tuple_(*order) > after)
    if not isinstance(scope, OrgScope):
        return connection.execute(listed.order_by(*order).limit(limit)).all()
    parts = (
        # The owner is sorted by too: PostgreSQL does not know that NULLs are alike.
        connection.execute(listed.where(owned).order_by(table.c.org_id, *order).limit(limit))
        for owned in (within(scope, table.c.org_id), table.c.org_id.is_(None))
    )
    return list(islice(merge(*parts, key=lambda row: (row.created_at_us, row.id)), limit))


def make(connection: Connection, kind: Kind, new: New, open_term: Opening) -> str:
    """Write a new thing at version 1 with its first term, and answer its id. An inactive one's term is withdrawn.

    Raises:
        InvalidInput: the dates or the notes cannot be used.
        Conflict: another thing has the same names at the same time; carries its id.
    """
    identity, opened, notes = new_id(kind.prefix), checked_range(*new.opened), checked_notes(new.notes)
    lock_catalog(connection)
    if new.is_active:
        _require_free(connection, kind, new.subject_key, opened, identity=identity, at_us=new.at_us)
    insert_row(
        connection,
        kind.subjects,
        {
            **new.values,
            "id": identity,
            "org_id": new.org_id,
            "subject_key": new.subject_key,
            "notes": notes,
            "is_active": int(new.is_active),
        },
        new.at_us,
    )
    term_id = open_term(identity, *opened)
    if not new.is_active:
        _redate(connection, kind, Redating(withdrawn=(term_id,)), new.at_us)
    raise_catalog_version(connection)
    return identity


def change(
    connection: Connection,
    kind: Kind,
    row: Row[Any],
    wanted: Redated,
    open_term: Opening,
    *,
    says_new: bool,
    at_us: int,
    **values: Any,
) -> None:
    """Change a thing that `find_own` found: its terms by their dates, its columns by `values`.

    Raises:
        InvalidInput: the dates or the notes cannot be used.
        Conflict: another thing has the same names at the same time; carries its id.
    """
    spans = _live_spans(connection, kind, row.id)
    redating = plan_change(spans, wanted, is_active=bool(row.is_active), says_new=says_new, at_us=at_us)
    if redating.opened is not None:
        _require_free(connection, kind, row.subject_key, redating.opened, identity=row.id, at_us=at_us)
    _redate(connection, kind, redating, at_us)
    if redating.opened is not None:
        open_term(row.id, *redating.opened)
    touch(connection, kind.subjects, row.id, at_us, **_noted(wanted), **values)
    raise_catalog_version(connection)


def delete(
    connection: Connection, scope: Scope, kind: Kind, identity: str, *, expected_version: int | None, at_us: int
) -> None:
    """Let nothing of a thing hold from now on, and show it no more; what it said before keeps holding for its time.

    Raises:
        NotFound, Outdated: as `find_own`.
    """
    lock_catalog(connection)
    find_own(connection, scope, kind.subjects, kind.noun, identity, expected_version=expected_version)
    _redate(connection, kind, ended(_live_spans(connection, kind, identity), at_us), at_us)
    touch(connection, kind.subjects, identity, at_us, deleted_at_us=at_us, is_active=0)
    raise_catalog_version(connection)


def insert_row(connection: Connection, table: Table, values: Mapping[str, Any], at_us: int) -> None:
    """Write a new thing, at version 1."""
    connection.execute(insert(table).values(**values, created_at_us=at_us, updated_at_us=at_us))


def touch(connection: Connection, table: Table, identity: str, at_us: int, **values: Any) -> None:
    """Note that a thing has changed, with the columns that are new."""
    connection.execute(
        update(table)
        .where(table.c.id == identity)
        .values(row_version=table.c.row_version + 1, updated_at_us=at_us, **values)
    )


def _noted(wanted: Redated) -> dict[str, Any]:
    """Answer the columns that a change sets on the thing itself."""
    values: dict[str, Any] = {}
    if not isinstance(wanted.notes, UnsetType):
        values["notes"] = checked_notes(wanted.notes)
    if not isinstance(wanted.is_active, UnsetType):
        values["is_active"] = int(wanted.is_active)
    return values


def term_fields(row: Row[Any]) -> dict[str, Any]:
    """Read what every term has, for the constructor of its struct."""
    return {name: getattr(row, name) for name in Term.__struct_fields__}


def plan_change(spans: Sequence[Span], wanted: Redated, *, is_active: bool, says_new: bool, at_us: int) -> Redating:
    """Decide what a change does to the terms that are not withdrawn. `says_new`: the terms themselves change.

    Raises:
        InvalidInput: the dates contradict each other, or new terms are given to what is, or becomes, inactive.
    """
    dates = (wanted.effective_from_us, wanted.effective_to_us)
    says_when = any(not isinstance(date, UnsetType) for date in dates)
    becomes_active = is_active if isinstance(wanted.is_active, UnsetType) else wanted.is_active
    if not becomes_active:
        if says_new or says_when:
            raise InvalidInput(
                "is_active", "what is not active has no terms to change; make it active with this change"
            )
        return ended(spans, at_us) if is_active else Redating()
    if says_new or not is_active or not isinstance(wanted.effective_from_us, UnsetType):
        return replaced(spans, *checked_range(*_new_range(spans, wanted, at_us)))
    if isinstance(wanted.effective_to_us, UnsetType):
        return Redating()
    if wanted.effective_to_us is not None and all(not _begins_before(span, wanted.effective_to_us) for span in spans):
        raise InvalidInput("effective_to", "must lie after the begin")
    checked_range(None, wanted.effective_to_us)
    redating = ended_anew(spans, wanted.effective_to_us, at_us)
    if redating.opened is not None:
        checked_range(*redating.opened)
    return redating


def _require_free(
    connection: Connection, kind: Kind, key: str, opened: tuple[int | None, int | None], *, identity: str, at_us: int
) -> None:
    """Make sure that no other thing says something else under the same names at the same time.

    A deleted thing gives way: from the new begin on, its terms are closed or withdrawn.

    Raises:
        Conflict: another one stands in the way; carries its id.
    """
    subjects = kind.subjects
    others = connection.execute(
        select(subjects.c.id, subjects.c.deleted_at_us).where(subjects.c.subject_key == key, subjects.c.id != identity)
    ).all()
    for other in sorted(others, key=lambda row: row.deleted_at_us is not None):
        spans = _live_spans(connection, kind, other.id)
        if not any(span.overlaps(*opened) for span in spans):
            continue
        if other.deleted_at_us is None:
            raise Conflict(
                f"{kind.noun} {other.id!r} holds under the same names at the same time: change or delete that one",
                conflicting_id=other.id,
            )
        _redate(connection, kind, ended(spans, opened[0]), at_us)


def _live_spans(connection: Connection, kind: Kind, identity: str) -> list[Span]:
    """Read when the terms of a thing hold, the withdrawn ones left out."""
    terms, dates = kind.terms, kind.dates
    listed = select(terms.c.id, dates.c.effective_from_us, dates.c.effective_to_us).where(
        terms.c.subject_id == identity, terms.c.withdrawn_at_us.is_(None), dates.c.id == terms.c.id
    )
    return [Span(*row) for row in connection.execute(listed)]


def _redate(connection: Connection, kind: Kind, redating: Redating, at_us: int) -> None:
    """Close and withdraw terms; opening is the business of who knows what they say."""
    for term_id, end_us in redating.closed.items():
        connection.execute(update(kind.dates).where(kind.dates.c.id == term_id).values(effective_to_us=end_us))
    if redating.withdrawn:
        connection.execute(
            update(kind.terms).where(kind.terms.c.id.in_(redating.withdrawn)).values(withdrawn_at_us=at_us)
        )


def in_order(terms: Sequence[AnyTerm]) -> tuple[AnyTerm, ...]:
    """Sort terms by their begin, and those of one begin by when they were made."""
    return tuple(
        sorted(
            terms,
            key=lambda term: (
                term.effective_from_us is not None,
                term.effective_from_us or 0,
                term.created_at_us,
                term.withdrawn_at_us is None,
            ),
        )
    )


def standing_term(terms: Sequence[AnyTerm], at_us: int) -> AnyTerm:
    """Choose the term to show or to start from: what holds at that moment, else the next one, else the last one."""
    live = [term for term in terms if term.withdrawn_at_us is None]
    holding = [term for term in live if term.span.holds_at(at_us)]
    coming = [term for term in live if (term.effective_from_us or 0) > at_us]
    if holding or coming:
        return min(holding or coming, key=lambda term: term.effective_from_us or 0)
    if live:
        return max(live, key=lambda term: term.effective_to_us or 0)
    return max(terms, key=lambda term: term.created_at_us)


def _visible(scope: Scope, table: Table) -> ColumnElement[bool]:
    return or_(table.c.org_id.is_(None), within(scope, table.c.org_id))


def _new_range(spans: Sequence[Span], wanted: Redated, at_us: int) -> tuple[int | None, int | None]:
    from_us, to_us = wanted.effective_from_us, wanted.effective_to_us
    if isinstance(from_us, UnsetType):
        from_us = _default_begin(spans, at_us)
    if isinstance(to_us, UnsetType):
        ends = [span.to_us for span in spans]
        last = None if None in ends else max((end for end in ends if end is not None), default=None)
        to_us = last if last is None or from_us is None or last > from_us else None
    return from_us, to_us


def _default_begin(spans: Sequence[Span], at_us: int) -> int:
    """A change takes effect now; one of terms that are still to come, when they do."""
    begins = [span.from_us for span in spans]
    if not begins or None in begins or any(begin is not None and begin <= at_us for begin in begins):
        return at_us
    return min(begin for begin in begins if begin is not None)


def _begins_before(span: Span, at_us: int) -> bool:
    return span.from_us is None or span.from_us < at_us
