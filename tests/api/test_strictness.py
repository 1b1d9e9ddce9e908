"""What is refused, and how: by the name of the parameter or the place in the body, before any database is asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api


@pytest.fixture
def api(unchanging_api: Api) -> Api:
    """An API on SQLite; what is refused here is refused alike on any database."""
    return unchanging_api


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("start", "2026-03-10T12:00:00"),
        ("start", "2026-03-10"),
        ("end", "yesterday"),
        ("status", "failed"),
        ("billing_status", "paid"),
        ("reason", "because"),
        ("min_cost", "NaN"),
        ("min_cost", "1e-3"),
        ("max_cost", "9000001"),
        ("trace_id", "xyz"),
        ("project", ""),
        ("user", "x" * 401),
        ("tag", "a\0b"),
        ("limit", "501"),
        ("cursor", "nonsense"),
        ("modle", "gpt-4o"),
    ],
)
def test_a_wrong_filter_is_refused_by_name(api: Api, parameter: str, value: str) -> None:
    response = api.get("/v1/usage", **{parameter: value})

    assert response.status_code == 400
    assert [error["parameter"] for error in response.json()["errors"]] == [parameter]


def test_a_naive_time_is_refused_with_the_cure(api: Api) -> None:
    (error,) = api.get("/v1/usage", start="2026-03-10T12:00:00").json()["errors"]

    assert error == {
        "parameter": "start",
        "detail": "'2026-03-10T12:00:00' has no offset from UTC; "
        "write 2026-11-01T00:00:00Z or 2026-11-01T00:00:00+03:00",
    }


def test_costs_and_times_the_wrong_way_round_are_refused(api: Api) -> None:
    costs = api.get("/v1/usage", min_cost="2", max_cost="1")
    times = api.get("/v1/usage", start="2026-03-10T12:00:00Z", end="2026-03-10T12:00:00Z")

    assert (costs.status_code, costs.json()["errors"][0]["parameter"]) == (400, "max_cost")
    assert (times.status_code, times.json()["errors"][0]["parameter"]) == (400, "end")


@pytest.mark.parametrize(
    ("parameters", "parameter"),
    [
        ({"group_by": "modle"}, "group_by"),
        ({"group_by": "model,model"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"bucket": "year"}, "bucket"),
        ({"bucket": "day"}, "start"),
        ({"bucket": "hour", "start": "2020-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "bucket"),
        ({"tz": "Mars/Olympus"}, "tz"),
        ({"limit": "0"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"start": "2026-03-01"}, "start"),
        ({"group_by": "task_id", "start": "2026-01-01T00:00:00Z", "end": "2026-03-01T00:00:00Z"}, "start"),
        ({"cursor": "x"}, "cursor"),
    ],
    ids=str,
)
def test_a_wrong_question_for_sums_is_refused_by_name(api: Api, parameters: dict[str, str], parameter: str) -> None:
    response = api.get("/v1/usage/summary", **parameters)

    assert response.status_code == 400, response.text
    assert [error["parameter"] for error in response.json()["errors"]] == [parameter]


@pytest.mark.parametrize("month", ["2026-13", "2026-3", "march", "0000-01", "9999-12"])
def test_what_is_no_month_is_refused(api: Api, month: str) -> None:
    response = api.get(f"/v1/organizations/acme/months/{month}")

    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == "month"


@pytest.mark.parametrize("days", ["0", "367", "x"])
def test_a_window_has_1_to_366_days(api: Api, days: str) -> None:
    assert api.get("/v1/overview", days=days).json()["errors"][0]["parameter"] == "days"


@pytest.mark.parametrize(
    ("parameters", "parameter"),
    [
        ({"provider": "openai"}, "model"),
        ({"model": ""}, "model"),
        ({"model": "gpt-4o", "at": "2026-07-01T00:00:00"}, "at"),
        ({"model": "gpt-4o", "providr": "openai"}, "providr"),
    ],
    ids=str,
)
def test_a_wrong_question_for_a_price_is_refused_by_name(api: Api, parameters: dict[str, str], parameter: str) -> None:
    response = api.get("/v1/prices/resolve", **parameters)

    assert response.status_code == 400
    assert [error["parameter"] for error in response.json()["errors"]] == [parameter]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/items"),
        ({"items": []}, "/items"),
        ({"items": [{"usage": {}}]}, "/items/0/model"),
        ({"items": [{"model": "m", "usage": {"input_token": 1}}]}, "/items/0/usage/input_token"),
        ({"items": [{"model": "m", "usage": {"input_tokens": "1"}}]}, "/items/0/usage/input_tokens"),
        ({"items": [{"model": "m", "usage": {}, "at": "2026-07-01T00:00:00"}]}, "/items/0/at"),
        ({"items": [{"model": "m", "usage": {}}] * 1001}, "/items"),
    ],
)
def test_a_wrong_quote_is_pointed_into(api: Api, body: object, pointer: str) -> None:
    response = api.post("/v1/prices/quote", body)

    assert response.status_code == 400
    assert [error["pointer"].split("...")[0] for error in response.json()["errors"]] == [pointer]


def test_a_wrong_key_wish_is_pointed_at(api: Api) -> None:
    wishes: list[tuple[Any, str]] = [
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"scopes": ["admin"], "system": "yes"}, "/system"),
        ({"scopes": ["admin"], "expires_at": "2999-01-01T00:00:00"}, "/expires_at"),
        ({"scopes": ["admin"], "expires_at": 5}, "/expires_at"),
    ]
    for body, pointer in wishes:
        response = api.post("/v1/api-keys", body)
        assert response.status_code == 400
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/credits/purchases", {"external_id": "p", "amount": "5", "paid": 0.1}, "/paid"),
        ("/v1/budgets", {"name": "b", "amount": 10.0}, "/amount"),
        ("/v1/budgets/check", {"estimated_cost": 0.1}, "/estimated_cost"),
        ("/v1/usage", {"model": "m", "occurred_at": "2026-03-10T12:00:00Z", "stated_cost": 0.1}, "/stated_cost"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_money_as_a_float_is_refused_by_name(api: Api, path: str, body: dict[str, Any], pointer: str) -> None:
    response = api.post(path, body)

    assert response.status_code == 400, response.text
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
