"""`farebox quarantine`: spans that could not be booked as they came, listed, shown, replayed and deleted.

The same functions as behind `/v1/quarantine`. A replay is only asked for here: a running collector books it (ADR 010).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, Final, get_args

from sqlalchemy import Connection

from farebox_ledger.commands.moments import moment, time_text
from farebox_ledger.commands.opening import guarded, opened_database, print_json
from farebox_ledger.commands.tables import print_table
from farebox_ledger.errors import LedgerError, NotFound
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import organization_by_slug, organizations_by_id
from farebox_ledger.store.quarantine import (
    QuarantinedSpan,
    QuarantineFilter,
    QuarantineReason,
    QuarantineState,
    delete_quarantined,
    list_quarantined,
    quarantined_span,
    request_replay,
)
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope

_EVERYBODY: Final = AllOrganizations()
_MAX_LISTED: Final = 10_000
"""As many as the books keep of one organization."""
_LAST_US: Final = 32_503_680_000_000_000
"""The year 3000: what a span says beyond is no time that can be written."""


class SomeLeftOut(LedgerError):
    """Not every span that was named could be replayed or deleted; each was named in a line of its own."""


def quarantine(arguments: Sequence[str]) -> int:
    """List, show, replay and delete quarantined spans.

    The exit code: 0 done, 1 refused, 2 wrong use.
    """
    options = _parser().parse_args(arguments)
    return guarded("farebox quarantine", lambda: options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "farebox quarantine",
        description="Spans that could not be booked as they came; a forwarder's: farebox forward --list-quarantine.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list the spans, the newest arrival first")
    _add_filters(listing)
    listing.set_defaults(run=_list)
    showing = commands.add_parser("show", help="show one span with what is kept of it, and how its replay ended")
    showing.add_argument("ids", metavar="ID", type=_identity, nargs=1, help="the span's id (farebox quarantine list)")
    showing.set_defaults(run=_show)
    replaying = commands.add_parser("replay", help="ask that spans be booked, by a running collector, within seconds")
    replaying.add_argument(
        "--occurred-at",
        type=moment,
        metavar="T",
        help="when the call ended, RFC 3339 with offset, for a span whose own time is not to be believed",
    )
    replaying.set_defaults(run=_replay)
    deleting = commands.add_parser("delete", help="forget spans for good; a usage row that came of one stays")
    deleting.set_defaults(run=_delete)
    for command in (replaying, deleting):
        command.add_argument("ids", metavar="ID", type=_identity, nargs="+", help="ids (farebox quarantine list)")
    for command in (listing, showing, replaying, deleting):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_filters(listing: argparse.ArgumentParser) -> None:
    listing.add_argument("--org", metavar="SLUG", help="only spans of this organization")
    listing.add_argument("--reason", choices=get_args(QuarantineReason), help="why they were set aside")
    listing.add_argument("--state", choices=get_args(QuarantineState), help="what has become of them")
    listing.add_argument("--trace-id", type=_identity, metavar="HEX", help="only spans of this trace")
    listing.add_argument("--start", type=moment, metavar="T", help="only spans that came then or later (RFC 3339)")
    listing.add_argument("--end", type=moment, metavar="T", help="only spans that came before (RFC 3339)")
    listing.add_argument("--limit", type=_number, default=50, metavar="N", help=f"at most so many (50; {_MAX_LISTED})")


def _list(options: argparse.Namespace) -> None:
    wanted = QuarantineFilter(
        reason=options.reason,
        state=options.state,
        trace_id=options.trace_id,
        start_us=options.start,
        end_us=options.end,
    )
    with opened_database() as engine, transaction(engine, _EVERYBODY) as connection:
        scope = _EVERYBODY if options.org is None else _organization(connection, options.org)
        found = list_quarantined(connection, scope, wanted, limit=options.limit)
        answers = _answers(connection, found)
    if options.json:
        print_json(answers)
    else:
        _print_list(answers)


def _show(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY) as connection:
        (answer,) = _answers(connection, [quarantined_span(connection, _EVERYBODY, options.ids[0])])
    if options.json:
        print_json(answer)
        return
    width = max(map(len, answer))
    for name, value in answer.items():
        print(f"{name:<{width}}  {json.dumps(value) if isinstance(value, dict) else '-' if value is None else value}")


def _replay(options: argparse.Namespace) -> None:
    asked: list[QuarantinedSpan] = []
    faults: list[str] = []
    with opened_database() as engine:
        for identity in options.ids:
            try:
                with transaction(engine, _EVERYBODY, write=True) as connection:
                    asked.append(request_replay(connection, _EVERYBODY, identity, stated_end_us=options.occurred_at))
            except LedgerError as error:
                faults.append(f"{identity.hex()}: {error}")
        with transaction(engine, _EVERYBODY) as connection:
            answers = _answers(connection, asked)
    if options.json:
        print_json(answers)
    else:
        for answer in answers:
            print(f"{answer['id']}: {answer['state']}")
    _complain(faults)


def _delete(options: argparse.Namespace) -> None:
    deleted: list[str] = []
    faults: list[str] = []
    with opened_database() as engine:
        for identity in options.ids:
            try:
                with transaction(engine, _EVERYBODY, write=True) as connection:
                    delete_quarantined(connection, _EVERYBODY, identity)
                deleted.append(identity.hex())
            except LedgerError as error:
                faults.append(f"{identity.hex()}: {error}")
    if options.json:
        print_json({"deleted": deleted})
    else:
        for identity_text in deleted:
            print(f"deleted {identity_text}")
    _complain(faults)


def _complain(faults: Sequence[str]) -> None:
    if faults:
        raise SomeLeftOut("; ".join(faults))


def _print_list(answers: Sequence[dict[str, Any]]) -> None:
    print_table(
        ("ID", "ORGANIZATION", "RECEIVED", "REASON", "STATE", "DETAIL"),
        [
            (one["id"], one["organization"], one["received_at"], one["reason"], one["state"], _detail(one))
            for one in answers
        ],
    )


def _detail(answer: dict[str, Any]) -> str:
    """Why it was set aside or, later, how its replay ended."""
    return " ".join(str(answer["outcome"] or answer["detail"]).split())


def _answers(connection: Connection, found: Sequence[QuarantinedSpan]) -> list[dict[str, Any]]:
    owners = organizations_by_id(connection, {one.org_id for one in found})
    return [_answer(one, owners[one.org_id].slug) for one in found]


def _answer(one: QuarantinedSpan, organization: str) -> dict[str, Any]:
    """Write a span with the members that it has in the API."""
    is_time = one.ended_at_us is not None and 0 <= one.ended_at_us < _LAST_US
    return {
        "id": one.quarantine_id.hex(),
        "organization": organization,
        "key": one.key_id,
        "received_at": time_text(one.received_at_us),
        "reason": one.reason,
        "detail": one.detail,
        "digest": one.digest.hex(),
        "size_bytes": one.size_bytes,
        "trace_id": None if one.trace_id is None else one.trace_id.hex(),
        "span_id": None if one.span_id is None else one.span_id.hex(),
        "ended_at": time_text(one.ended_at_us or 0) if is_time else None,
        "attributes": None if one.attributes is None else json.loads(one.attributes),
        "is_replayable": one.span is not None,
        "state": one.state,
        "stated_end": None if one.stated_end_us is None else time_text(one.stated_end_us),
        "outcome": one.outcome,
        "usage_id": None if one.usage_id is None else f"{one.usage_day}-{one.usage_id.hex()}",
        "changed_at": time_text(one.changed_at_us),
    }


def _organization(connection: Connection, slug: str) -> Scope:
    found = organization_by_slug(connection, slug)
    if found is None:
        raise NotFound("organization", slug)
    return OrgScope(found.org_id)


def _identity(text: str) -> bytes:
    """Read an id or a trace id for argparse."""
    try:
        identity = bytes.fromhex(text)
    except ValueError:
        identity = b""
    if len(identity) != 16:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 32 hex digits")
    return identity


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_LISTED:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 to {_MAX_LISTED}")
    return int(text)
