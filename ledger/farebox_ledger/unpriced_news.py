"""The job that tells webhooks of calls without a price: once for each new group of provider, model and reason.

It reads the sums beside the rows, not the rows, and stands in nobody's way who books them. Who begins to listen later
is not told of groups that are known by then; `GET /v1/unpriced` lists them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Engine

from farebox_ledger.store.engine import transaction
from farebox_ledger.store.jobs import Interrupted, Job, heartbeat
from farebox_ledger.store.organizations import organizations_by_id
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.store.unpriced_notices import (
    FoundGroup,
    forget_empty,
    has_empty,
    new_groups,
    note_group,
    organizations_with_unpriced,
)
from farebox_ledger.store.webhook_deliveries import emit, utc_text

ANNOUNCE: Final = "announce_unpriced"

MAX_GROUPS: Final = 100
"""How many groups of one organization one run tells of; the others wait for the next."""

_EVERYBODY: Final = AllOrganizations()


class Announced(msgspec.Struct, frozen=True):
    """How many groups were new."""

    groups: int


def announce_unpriced(engine: Engine, job: Job, stop: threading.Event) -> Announced:
    """Tell of the new groups of each organization."""
    with transaction(engine, _EVERYBODY) as connection:
        having = organizations_with_unpriced(connection)
        waiting = [one for one in having if new_groups(connection, one, limit=1) or has_empty(connection, one)]
    groups = 0
    for org_id in waiting:
        if stop.is_set():
            raise Interrupted
        with transaction(engine, _EVERYBODY, write=True) as connection:
            groups += announce_of(connection, org_id, time.time_ns() // 1000)
            heartbeat(connection, job)
    return Announced(groups)


def announce_of(connection: Connection, org_id: int, now_us: int) -> int:
    """Tell of one organization's new groups, in the caller's write transaction; answers how many there were."""
    forget_empty(connection, org_id)
    found = new_groups(connection, org_id, limit=MAX_GROUPS)
    for group in found:
        note_group(connection, group, now_us)
        name = group.name
        identity = msgspec.json.encode((org_id, name.provider, name.model, name.reason, now_us)).decode()
        told = _told(connection, group, now_us)
        emit(connection, OrgScope(org_id), "usage.unpriced_found", identity, told, now_us=now_us)
    return len(found)


def _told(connection: Connection, group: FoundGroup, now_us: int) -> Mapping[str, Any]:
    """Write what a webhook is told: names and a count, nothing of any call."""
    organization = organizations_by_id(connection, [group.org_id]).get(group.org_id)
    return {
        "organization": None if organization is None else organization.slug,
        "provider": group.name.provider,
        "model": group.name.model,
        "reason": group.name.reason,
        "rows": group.rows,
        "found_at": utc_text(now_us),
    }
