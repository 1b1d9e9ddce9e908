from __future__ import annotations

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from farebox_ledger.errors import InvalidInput
from farebox_ledger.store import quarantine
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.quarantine import (
    QuarantinedSpan,
    QuarantineFilter,
    QuarantineReason,
    ReplayOutcome,
    bring_in,
    delete_quarantined,
    list_quarantined,
    note_replay,
    request_replay,
    requested_replay,
)
from farebox_ledger.store.scope import OrgScope
from tests.ledger.store.bookings import ACME, EVERYBODY, NOON, ZENITH


def span(number: int, org_id: int = ACME, reason: QuarantineReason = "clock_skew") -> QuarantinedSpan:
    return QuarantinedSpan(
        quarantine_id=number.to_bytes(16, "big"), org_id=org_id, received_at_us=NOON + number, reason=reason,
        detail="why", digest=bytes(16), size_bytes=1, span=b"span",
    )  # fmt: skip


def numbers(engine: Engine) -> list[int]:
    with transaction(engine, EVERYBODY) as connection:
        found = list_quarantined(connection, EVERYBODY, QuarantineFilter(), limit=100)
    return [int.from_bytes(one.quarantine_id, "big") for one in found]


def test_what_comes_again_is_left_as_it_is(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        assert bring_in(connection, EVERYBODY, [span(1), span(2)]) == 2
        request_replay(connection, EVERYBODY, span(1).quarantine_id)
        assert bring_in(connection, EVERYBODY, [span(1), span(3)]) == 1
        one = requested_replay(connection)

    assert one is not None
    assert one.quarantine_id == span(1).quarantine_id
    assert numbers(engine) == [3, 2, 1]


def test_an_organization_brings_in_its_own_alone(engine: Engine) -> None:
    with transaction(engine, OrgScope(ACME), write=True) as connection, pytest.raises(InvalidInput, match="scope"):
        bring_in(connection, OrgScope(ACME), [span(1, ZENITH)])


def test_beyond_the_bound_the_oldest_that_was_told_of_is_forgotten(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_ROWS", 3)
    with transaction(engine, EVERYBODY, write=True) as connection:
        bring_in(connection, EVERYBODY, [span(1, reason="booking_crashed"), span(2), span(3), span(9, ZENITH)])
        request_replay(connection, EVERYBODY, span(2).quarantine_id)
        bring_in(connection, EVERYBODY, [span(4), span(5)])

    assert numbers(engine) == [9, 5, 2, 1]


def test_a_refused_replay_may_be_asked_for_again(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        bring_in(connection, EVERYBODY, [span(1)])
        request_replay(connection, EVERYBODY, span(1).quarantine_id)
        one = requested_replay(connection)
        assert one is not None
        note_replay(connection, one, ReplayOutcome(state="refused", outcome="too late"))
        assert requested_replay(connection) is None
        again = request_replay(connection, EVERYBODY, one.quarantine_id, stated_end_us=NOON)

    assert (again.state, again.outcome, again.stated_end_us) == ("requested", None, NOON)


def test_a_span_of_which_nothing_is_kept_is_never_requested(engine: Engine) -> None:
    unread = QuarantinedSpan(
        quarantine_id=bytes(16), org_id=ACME, received_at_us=NOON, reason="malformed_span", detail="", digest=b"",
        size_bytes=0, state="requested",
    )  # fmt: skip

    with pytest.raises(IntegrityError), transaction(engine, EVERYBODY, write=True) as connection:
        bring_in(connection, EVERYBODY, [unread])


def test_a_deleted_span_is_gone_from_the_requests_too(engine: Engine) -> None:
    with transaction(engine, EVERYBODY, write=True) as connection:
        bring_in(connection, EVERYBODY, [span(1)])
        request_replay(connection, EVERYBODY, span(1).quarantine_id)
        delete_quarantined(connection, OrgScope(ACME), span(1).quarantine_id)

        assert requested_replay(connection) is None
