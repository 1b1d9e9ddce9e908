"""`farebox orgs` and `farebox keys`: who is metered, and with which keys they send and read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from farebox_ledger.commands.moments import moment
from farebox_ledger.commands.opening import guarded, opened_database, print_json
from farebox_ledger.errors import NotFound
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.key_uses import KeyUses
from farebox_ledger.store.keys import KEY_SCOPES, KeyRecord, all_keys, create_key, revoke_key
from farebox_ledger.store.organizations import (
    Organization,
    create_organization,
    list_organizations,
    organization_by_slug,
)
from farebox_ledger.store.scope import AllOrganizations, OrgScope, Scope

_EVERYBODY = AllOrganizations()


def orgs(arguments: Sequence[str]) -> int:
    """Make and list organizations.

    The exit code: 0 done, 1 refused, 2 wrong use.
    """
    parser = argparse.ArgumentParser("farebox orgs", description="Organizations: whose usage is metered.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    creating = commands.add_parser("create", help="make an organization")
    creating.add_argument("slug", metavar="SLUG", help="its name in URLs and commands, which never changes")
    creating.add_argument("--name", help="its name for people")
    creating.set_defaults(run=_create_organization)

    listing = commands.add_parser("list", help="list the organizations")
    listing.set_defaults(run=_list_organizations)

    for command in (creating, listing):
        command.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    return guarded("farebox orgs", lambda: options.run(options))


def keys(arguments: Sequence[str]) -> int:
    """Make, list and revoke API keys.

    The exit code: 0 done, 1 refused, 2 wrong use.
    """
    options = _keys_parser().parse_args(arguments)
    return guarded("farebox keys", lambda: options.run(options))


def _keys_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("farebox keys", description="API keys: who may send and who may read.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    creating = commands.add_parser("create", help="make a key; it is shown this one time")
    owner = creating.add_mutually_exclusive_group(required=True)
    owner.add_argument("--org", metavar="SLUG", help="the organization that the key sends and reads for")
    owner.add_argument("--system", action="store_true", help="a key that sees all organizations")
    creating.add_argument(
        "--scope", action="append", required=True, choices=KEY_SCOPES, help="what the key may do; may be repeated"
    )
    creating.add_argument("--name", help="a name to know the key by")
    creating.add_argument("--expires-at", type=moment, metavar="T", help="when it ends, RFC 3339 with offset (never)")
    creating.set_defaults(run=_create_key)

    listing = commands.add_parser("list", help="list the keys, revoked ones among them")
    listing.add_argument("--org", metavar="SLUG", help="only the keys of this organization")
    listing.set_defaults(run=_list_keys)

    revoking = commands.add_parser("revoke", help="end a key now")
    revoking.add_argument("id", metavar="ID", help="the key's id (farebox keys list)")
    revoking.set_defaults(run=_revoke_key)

    for command in (creating, listing, revoking):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _create_organization(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY, write=True) as connection:
        made = create_organization(connection, options.slug, options.name)
    if options.json:
        print_json(_organization_answer(made))
    else:
        print(f"made organization {made.slug}")


def _list_organizations(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY) as connection:
        found = list_organizations(connection, _EVERYBODY)
    if options.json:
        print_json([_organization_answer(organization) for organization in found])
    else:
        _print_table(
            ("SLUG", "CREATED", "NAME"), [(one.slug, _time(one.created_at_us), one.name or "") for one in found]
        )


def _create_key(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY, write=True) as connection:
        org_id = None if options.system else _organization(connection, options.org).org_id
        record, text = create_key(
            connection, org_id=org_id, scopes=options.scope, name=options.name, expires_at_us=options.expires_at
        )
    if options.json:
        answer = {"id": record.id, "key": text, "prefix": record.prefix, "org": record.org_slug}
        print_json(answer | {"scopes": list(record.scopes)})
    else:
        print(text)
        print(f"{record.id}: this is the only time that the key is shown", file=sys.stderr)


def _list_keys(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY) as connection:
        scope: Scope = _EVERYBODY
        if options.org is not None:
            scope = OrgScope(_organization(connection, options.org).org_id)
        found = all_keys(connection, scope)
        used_us = KeyUses(engine).last_used_us([record.id for record in found])
    if options.json:
        print_json([_key_answer(one) | {"last_used_at": _optional_time(used_us.get(one.id))} for one in found])
    else:
        _print_table(
            ("ID", "PREFIX", "ORGANIZATION", "SCOPES", "CREATED", "LAST USED", "STATE", "NAME"),
            [
                (
                    record.id,
                    record.prefix,
                    record.org_slug or "(system)",
                    ",".join(record.scopes),
                    _time(record.created_at_us),
                    _optional_time(used_us.get(record.id)) or "never",
                    _state(record),
                    record.name or "",
                )
                for record in found
            ],
        )


def _revoke_key(options: argparse.Namespace) -> None:
    with opened_database() as engine, transaction(engine, _EVERYBODY, write=True) as connection:
        record = revoke_key(connection, _EVERYBODY, options.id)
    if options.json:
        print_json(_key_answer(record))
    else:
        print(f"revoked {record.id}; collectors refuse it within 5 seconds")


def _organization(connection: Connection, slug: str) -> Organization:
    found = organization_by_slug(connection, slug)
    if found is None:
        raise NotFound("organization", slug)
    return found


def _organization_answer(organization: Organization) -> dict[str, Any]:
    return {
        "slug": organization.slug,
        "name": organization.name,
        "created_at": _time(organization.created_at_us),
    }


def _key_answer(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "prefix": record.prefix,
        "org": record.org_slug,
        "name": record.name,
        "scopes": list(record.scopes),
        "created_at": _time(record.created_at_us),
        "expires_at": _optional_time(record.expires_at_us),
        "revoked_at": _optional_time(record.revoked_at_us),
    }


def _state(record: KeyRecord) -> str:
    if record.revoked_at_us is not None:
        return "revoked"
    return "active" if record.is_active(int(datetime.now(UTC).timestamp() * 1_000_000)) else "expired"


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _optional_time(time_us: int | None) -> str | None:
    return None if time_us is None else _time(time_us)


def _print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    lines = [titles, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
