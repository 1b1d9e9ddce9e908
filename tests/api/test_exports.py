"""Exports hold exactly the rows of the list, in its order, and their costs sum to those of the summary."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from farebox_api.schemas.usage import UsageAnswer
from farebox_api.streaming import PLACES
from farebox_ledger.delimited import read_cell
from farebox_ledger.pricing.charge import CostLine
from tests.api.conftest import Api
from tests.api.test_organizations import walk
from tests.api.test_usage import booked, outward_id
from tests.ledger.store.bookings import ZENITH, booking, priced, random_booking, suppressed, unpriced

EXPORTS = ("usage.csv", "usage.ndjson", "focus.csv")
MARCH = {"start": "2026-03-10T00:00:00Z", "end": "2026-04-03T00:00:00Z"}
FILTERS: tuple[dict[str, str], ...] = (
    {},
    {"provider": "openai"},
    {"project": "alpha", "status": "ok"} | MARCH,
    {"tag": "b"},
    {"min_cost": "0.000001"} | MARCH,
    {"user_email": "ann@example.com"},
    {"billing_status": "unpriced"},
    {"start": "2026-03-31T00:00:00Z", "end": "2026-04-01T00:00:00Z"},
)


def csv_records(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def csv_rows(text: str) -> list[dict[str, Any]]:
    """Read an export back with the types that the list's JSON has."""
    return [{name: json_value(name, cell) for name, cell in record.items()} for record in csv_records(text)]


def json_value(name: str, cell: str) -> Any:
    text = read_cell(cell)
    if text is None:
        return None
    kind = str(UsageAnswer.__annotations__[name])
    is_json = any(word in kind for word in ("int", "Count", "bool", "list", "dict", "CacheWrites"))
    return json.loads(text) if is_json else text


def export(api: Api, name: str, key: str | None = None, /, **asked: str) -> str:
    response = api.get(f"/v1/exports/{name}", key, **asked)
    assert response.status_code == 200, response.text
    return str(response.text)


@pytest.mark.parametrize("asked", FILTERS, ids=lambda asked: "-".join(asked) or "all")
def test_every_export_holds_what_the_list_and_the_summary_hold(api: Api, asked: dict[str, str]) -> None:
    random = Random(11)
    booked(api, *(random_booking(random, number) for number in range(1, 251)))

    listed = [row for page in walk(api, "/v1/usage", 100, api.system_key, **asked) for row in page]

    assert listed
    assert csv_rows(export(api, "usage.csv", api.system_key, **asked)) == listed
    assert [json.loads(line) for line in export(api, "usage.ndjson", api.system_key, **asked).splitlines()] == listed
    assert focus_costs(export(api, "focus.csv", api.system_key, **asked)) == costs(listed)
    summary = api.json("/v1/usage/summary", api.system_key, **asked)
    assert {group["currency"]: Decimal(group["cost"]) for group in summary["groups"] if group["cost"]} == costs(listed)


def costs(rows: list[dict[str, Any]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if row["cost"] is not None and row["billing_status"] != "suppressed":
            sums[row["currency"]] += Decimal(row["cost"])
    return dict(sums)


def focus_costs(text: str) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for record in csv_records(text):
        if record["BillingCurrency"] != "XXX":
            sums[record["BillingCurrency"]] += Decimal(record["BilledCost"])
    return dict(sums)


def test_the_header_is_the_rows_fields_even_without_rows(api: Api) -> None:
    assert export(api, "usage.csv") == ",".join(UsageAnswer.__struct_fields__) + "\r\n"
    assert export(api, "usage.ndjson") == ""
    assert export(api, "focus.csv").startswith("BillingAccountId,")


def test_text_that_would_be_a_formula_is_escaped_and_read_back(api: Api) -> None:
    texts = ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\rx", "＝1", "'quoted", 'a,"b"\nc', "-0.5"]
    booked(api, *(booking(number, action=text) for number, text in enumerate(texts)))

    cells = [record["action"] for record in csv_records(export(api, "usage.csv"))]

    assert Counter(cells) == Counter(
        ["'=1+1", "'+cmd", "'-2+3", "'@SUM(A1)", "'\tx", "'\rx", "'＝1", "''quoted", 'a,"b"\nc', "-0.5"]
    )
    assert {read_cell(cell) for cell in cells} == set(texts)


def test_no_export_shows_another_organizations_rows(api: Api) -> None:
    booked(api, booking(1), booking(2, org_id=ZENITH, project="secret-of-zenith"))

    for name in EXPORTS:
        assert "zenith" not in export(api, name)
        assert api.get(f"/v1/exports/{name}", organization="zenith").status_code == 404
        assert api.get(f"/v1/exports/{name}", api.system_key, organization="nobody").status_code == 404
        assert "secret-of-zenith" in export(api, name, api.system_key, organization="zenith")
        assert "acme" not in export(api, name, api.system_key, organization="zenith")


def test_an_export_needs_its_own_scope(api: Api) -> None:
    reader, exporter = api.make_key("acme", "usage:read"), api.make_key("acme", "export")

    for name in EXPORTS:
        assert api.get(f"/v1/exports/{name}", reader).status_code == 403
        assert api.get(f"/v1/exports/{name}", exporter).status_code == 200


@pytest.mark.parametrize("parameter", [{"start": "2026-03-10T12:00:00"}, {"modle": "x"}, {"limit": "5"}])
def test_an_export_takes_the_filters_of_the_list_and_nothing_else(api: Api, parameter: dict[str, str]) -> None:
    for name in EXPORTS:
        response = api.get(f"/v1/exports/{name}", **parameter)

        assert response.status_code == 400
        assert [error["parameter"] for error in response.json()["errors"]] == list(parameter)


def test_an_export_is_a_file_of_its_kind(api: Api) -> None:
    response = api.get("/v1/exports/usage.csv")

    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="usage.csv"'


def test_a_focus_record_sums_a_meter_over_a_day(api: Api) -> None:
    booked(api, *(booking(number, project="alpha", service="chat") for number in (1, 2)))

    record, other = csv_records(export(api, "focus.csv"))

    assert {name: value for name, value in record.items() if value} == {
        "BillingAccountId": "acme",
        "BillingAccountName": "acme",
        "BillingAccountType": "Organization",
        "BillingPeriodStart": "2026-03-01T00:00:00Z",
        "BillingPeriodEnd": "2026-04-01T00:00:00Z",
        "BillingCurrency": "USD",
        "BilledCost": "0.005",
        "EffectiveCost": "0.005",
        "ContractedCost": "0.005",
        "ListCost": "0.005",
        "ContractedUnitPrice": "0.0000025",
        "ListUnitPrice": "0.0000025",
        "ChargeCategory": "Usage",
        "ChargeDescription": "openai gpt-4o input_tokens",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": "2026-03-10T00:00:00Z",
        "ChargePeriodEnd": "2026-03-11T00:00:00Z",
        "ConsumedQuantity": "2000",
        "ConsumedUnit": "Tokens",
        "PricingCategory": "Standard",
        "PricingQuantity": "2000",
        "PricingUnit": "Tokens",
        "InvoiceIssuerName": "openai",
        "ProviderName": "openai",
        "PublisherName": "openai",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "ServiceName": "openai",
        "SkuId": "gpt-4o",
        "SkuMeter": "input_tokens",
        "SkuPriceId": "price-1",
        "SubAccountId": "alpha",
        "SubAccountName": "alpha",
        "SubAccountType": "Project",
        "Tags": '{"project":"alpha","service":"chat"}',
        "x_BillingStatus": "billed",
        "x_Calls": "2",
    }
    assert (other["SkuMeter"], other["BilledCost"], other["ConsumedQuantity"]) == ("output_tokens", "0.004", "400")


def test_focus_shows_unpriced_usage_without_a_quantity_and_leaves_suppressed_rows_out(api: Api) -> None:
    booked(api, booking(1, unpriced()), booking(2, suppressed()))

    (record,) = csv_records(export(api, "focus.csv"))

    assert (record["BilledCost"], record["ConsumedQuantity"], record["PricingUnit"]) == ("0", "", "")
    assert (record["x_BillingStatus"], record["x_ConsumedTokens"], record["x_Calls"]) == ("unpriced", "1200", "1")


MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName",
}  # fmt: skip
"""The columns whose feature level is mandatory in FOCUS 1.2 (FOCUS_Spec, tag v1.2, specification/columns)."""

MAY_BE_NULL = {"BillingAccountName", "ChargeClass", "ChargeDescription", "PricingQuantity", "PricingUnit"}


def test_focus_has_every_mandatory_column_and_no_null_where_none_may_be(api: Api) -> None:
    random = Random(12)
    nameless = unpriced("unknown_provider", provider=None, model=None)
    booked(api, booking(1000, nameless, provider=None), *(random_booking(random, number) for number in range(1, 90)))

    records = csv_records(export(api, "focus.csv", api.system_key))

    assert set(records[0]) >= MANDATORY
    empty = {name for record in records for name in MANDATORY if not record[name]}
    assert empty <= MAY_BE_NULL
    without = [record for record in records if record["BillingCurrency"] == "XXX"]
    assert {record["BilledCost"] for record in without} == {"0"}
    assert "unknown" in {record["ProviderName"] for record in without}


def test_a_multiplied_price_stands_beside_its_list_price(api: Api) -> None:
    lines = (CostLine("input_tokens", Decimal(1000), "0.0000025", "1.5", 2_500_000_000, 3_750_000_000),)
    booked(api, booking(1, priced(lines=lines, cost_pico=3_750_000_000, list_cost_pico=2_500_000_000)))

    (record,) = csv_records(export(api, "focus.csv"))

    assert (record["BilledCost"], record["ListCost"]) == ("0.00375", "0.0025")
    assert (record["ContractedUnitPrice"], record["ListUnitPrice"]) == ("0.00000375", "0.0000025")


def test_an_export_beyond_the_places_is_told_when_to_come_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLACES, "_each", 0)

    response = api.get("/v1/exports/usage.csv")

    assert (response.status_code, response.headers["retry-after"]) == (503, "10")
    assert response.json()["type"] == "urn:farebox:problem:unavailable"


def test_the_last_row_of_a_long_export_is_there(api: Api) -> None:
    booked(api, *(booking(number) for number in range(1, 1204)))

    ids = [record["id"] for record in csv_records(export(api, "usage.csv"))]

    assert len(ids) == len(set(ids)) == 1203
    assert outward_id(1) in ids
    assert outward_id(1203) in ids
