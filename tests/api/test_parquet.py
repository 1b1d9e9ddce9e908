"""Parquet exports: with the extra they hold what the list holds, without it the answer says what is missing."""

from __future__ import annotations

import io
import json
import sys
from random import Random

import pytest
from pyarrow import parquet

from tests.api.conftest import Api
from tests.api.test_organizations import walk
from tests.api.test_usage import booked
from tests.ledger.store.bookings import random_booking


def test_a_parquet_file_holds_what_the_list_holds(api: Api) -> None:
    random = Random(5)
    booked(api, *(random_booking(random, number) for number in range(1, 61)))

    response = api.get("/v1/exports/usage.parquet", api.system_key)

    rows = parquet.read_table(io.BytesIO(response.content)).to_pylist()
    for row in rows:
        for name in {"metadata", "cache_write_input_tokens", "raw_usage"} & row.keys():
            row[name] = None if row[name] is None else json.loads(row[name])
    assert response.headers["content-type"] == "application/vnd.apache.parquet"
    assert rows == [row for page in walk(api, "/v1/usage", 100, api.system_key) for row in page]


def test_without_the_extra_the_answer_names_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    response = api.get("/v1/exports/usage.parquet")

    assert response.status_code == 501
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:farebox:problem:missing-extra"
    assert 'pip install "farebox[parquet]"' in response.json()["detail"]
