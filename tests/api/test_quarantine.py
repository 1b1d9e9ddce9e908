from __future__ import annotations

import pytest

from farebox_ledger.store.engine import transaction
from farebox_ledger.store.quarantine import (
    QuarantinedSpan,
    ReplayOutcome,
    bring_in,
    note_replay,
    requested_replay,
)
from farebox_ledger.store.scope import AllOrganizations
from tests.api.conftest import Api, bearer
from tests.ledger.store.quarantined import span

EVERYBODY = AllOrganizations()


def set_aside(api: Api, *spans: QuarantinedSpan) -> None:
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        bring_in(connection, EVERYBODY, spans)


def ids(api: Api, key: str | None = None, **parameters: str) -> list[int]:
    return [int(item["id"], 16) for item in api.json("/v1/quarantine", key, **parameters)["items"]]


def delete(api: Api, number: int, key: str | None = None) -> int:
    return int(api.client.delete(f"/v1/quarantine/{number:032x}", headers=bearer(key or api.acme_key)).status_code)


def test_a_quarantined_span_is_shown_with_what_is_kept_of_it(api: Api) -> None:
    set_aside(api, span(1))

    (item,) = api.json("/v1/quarantine")["items"]

    changed_at = item.pop("changed_at")
    assert changed_at.endswith("Z")
    assert item == {
        "id": "00000000000000000000000000000001",
        "organization": "acme",
        "key": "key_1",
        "received_at": "2026-10-01T00:00:01.000000Z",
        "reason": "clock_skew",
        "detail": "the span ends 90000 seconds in the future",
        "digest": "00000000000000000000000000000000",
        "size_bytes": 310,
        "trace_id": "00000000000000000000000000000007",
        "span_id": "0000000000000007",
        "ended_at": "2026-10-02T01:00:00.000000Z",
        "attributes": {"gen_ai.request.model": "gpt-4o"},
        "is_replayable": True,
        "state": "held",
        "stated_end": None,
        "outcome": None,
        "usage_id": None,
    }
    assert api.json(f"/v1/quarantine/{item['id']}") == {**item, "changed_at": changed_at}


def test_pages_go_on_from_the_newest_and_never_answer_another_filter(api: Api) -> None:
    set_aside(api, *(span(number) for number in range(1, 6)))

    first = api.json("/v1/quarantine", limit="2")
    second = api.json("/v1/quarantine", limit="2", cursor=first["next_cursor"])
    last = api.json("/v1/quarantine", limit="2", cursor=second["next_cursor"])

    seen = [int(item["id"], 16) for page in (first, second, last) for item in page["items"]]
    assert (seen, last["has_more"], last["next_cursor"]) == ([5, 4, 3, 2, 1], False, None)
    assert api.get("/v1/quarantine", None, cursor=first["next_cursor"], state="held").status_code == 400


def test_filters_choose_by_reason_state_trace_and_arrival(api: Api) -> None:
    crashed = span(2, reason="booking_crashed", trace_id=b"\x01" * 16)
    set_aside(api, span(1), crashed, span(3, reason="malformed_span", span=None))

    assert ids(api, reason="booking_crashed") == [2]
    assert ids(api, trace_id="01" * 16) == [2]
    assert ids(api, state="held") == [3, 2, 1]
    assert ids(api, start="2026-10-01T00:00:02Z", end="2026-10-01T00:00:03Z") == [2]
    assert api.get("/v1/quarantine", None, reason="unlucky").status_code == 400


def test_tenants_neither_see_nor_touch_each_others_spans(api: Api) -> None:
    set_aside(api, span(1), span(2, "zenith"))

    assert (ids(api), ids(api, api.zenith_key), ids(api, api.system_key)) == ([1], [2], [2, 1])
    assert ids(api, api.system_key, organization="zenith") == [2]
    assert api.get("/v1/quarantine", None, organization="zenith").status_code == 404
    assert api.get(f"/v1/quarantine/{2:032x}").status_code == 404
    assert api.post(f"/v1/quarantine/{2:032x}/replay", {}).status_code == 404
    assert delete(api, 2) == 404
    assert ids(api, api.zenith_key, state="held") == [2]


def test_only_administrators_get_in(api: Api) -> None:
    reader = api.make_key("acme", "usage:read", "usage:write", "export", "ingest")

    assert api.get("/v1/quarantine", reader).status_code == 403
    assert api.post(f"/v1/quarantine/{1:032x}/replay", {}, reader).status_code == 403
    assert delete(api, 1, reader) == 403


def test_a_replay_needs_no_body(api: Api) -> None:
    set_aside(api, span(1))

    asked = api.client.post(f"/v1/quarantine/{1:032x}/replay", headers={"Authorization": f"Bearer {api.acme_key}"})

    assert (asked.status_code, asked.json()["state"], asked.json()["stated_end"]) == (202, "requested", None)


def test_a_replay_is_asked_for_and_ends_once(api: Api) -> None:
    set_aside(api, span(1))
    path = f"/v1/quarantine/{1:032x}"

    asked = api.post(f"{path}/replay", {"occurred_at": "2026-10-01T02:00:00+02:00"})

    assert (asked.status_code, asked.headers["location"], asked.json()["state"]) == (202, path, "requested")
    assert asked.json()["stated_end"] == "2026-10-01T00:00:00.000000Z"
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        one = requested_replay(connection)
        assert one is not None
        note_replay(connection, one, ReplayOutcome(state="replayed", outcome="booked", usage=(20261001, b"\xab" * 16)))
    ended = api.json(path)
    assert (ended["state"], ended["outcome"], ended["usage_id"]) == ("replayed", "booked", "20261001-" + "ab" * 16)
    assert api.post(f"{path}/replay", {}).json() == ended
    with transaction(api.engine, EVERYBODY, write=True) as connection:
        assert requested_replay(connection) is None


def test_what_cannot_be_replayed_is_a_conflict_and_can_be_deleted(api: Api) -> None:
    set_aside(api, span(1, reason="malformed_span", span=None, trace_id=None, attributes=None))

    refused = api.post(f"/v1/quarantine/{1:032x}/replay", {})

    assert refused.status_code == 409
    assert "only be deleted" in refused.json()["detail"]
    assert (delete(api, 1), delete(api, 1), ids(api)) == (204, 404, [])


@pytest.mark.parametrize(
    ("body", "pointer"), [({"occurred_at": "yesterday"}, "/occurred_at"), ({"occured_at": None}, "/occured_at")]
)
def test_a_wrong_body_is_named(api: Api, body: dict[str, object], pointer: str) -> None:
    set_aside(api, span(1))

    answer = api.post(f"/v1/quarantine/{1:032x}/replay", body)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, pointer)


def test_an_id_of_another_form_does_not_exist(api: Api) -> None:
    assert api.get("/v1/quarantine/nothing").status_code == 404
    assert api.get("/v1/quarantine/ab").status_code == 404
