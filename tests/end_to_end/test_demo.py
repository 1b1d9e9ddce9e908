"""`python3 run.py demo` ends as it promises, and would not if a call were lost, doubled or unpriced."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.end_to_end.demo import differences
from tests.end_to_end.line import run_to_end
from tests.fakes.provider import Served


def test_the_demo_prices_every_call_to_the_cent() -> None:
    printed = run_to_end([sys.executable, "-m", "tests.end_to_end.demo"], {})

    assert printed.splitlines()[-1] == "demo: 12 calls, 12 priced rows, total USD 0.04024792"


CALL = Served(path="/v1/chat/completions", status=200, model="gpt-4o", response_id="chatcmpl-1", usage={"x": 1})
ROW: dict[str, Any] = {
    "id": "20261121-00",
    "request_model": "gpt-4o",
    "response_id": "chatcmpl-1",
    "input_tokens": 5,
    "cost": "0.1",
    "billing_status": "billed",
    "reason": None,
}
UNPRICED = ROW | {"cost": None, "billing_status": "unpriced", "reason": "unknown_model"}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([ROW], []),
        ([], ["chatcmpl-1: answered 1 times, booked 0 times"]),
        ([ROW, ROW], ["chatcmpl-1: answered 1 times, booked 2 times"]),
        ([UNPRICED], ["gpt-4o: row 20261121-00 is unpriced because of unknown_model"]),
    ],
    ids=["as it should be", "missing", "doubled", "unpriced"],
)
def test_the_demo_names_what_is_wrong(rows: list[dict[str, Any]], expected: list[str]) -> None:
    assert differences([CALL], rows) == expected
