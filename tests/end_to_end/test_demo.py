"""`python3 run.py demo` ends as it promises, and would not if a call were lost, doubled or unpriced."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.end_to_end.demo import differences
from tests.end_to_end.line import run_to_end
from tests.fakes.provider import Served


def test_the_demo_prices_every_call_to_the_cent() -> None:
    printed = run_to_end([sys.executable, "-m", "tests.end_to_end.demo"], {})

    assert printed.splitlines()[-1] == "demo: 12 calls, 12 priced rows, total USD 0.04024792"


@pytest.mark.slow
def test_a_demo_that_is_kept_takes_everything_along_when_it_is_ended() -> None:
    command = [sys.executable, "-m", "tests.end_to_end.demo", "--keep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            kept = next(line for line in demo.stdout if "Ctrl-C ends it" in line)
            demo.terminate()
            assert demo.wait(60) == 143
        finally:
            demo.kill()

    found = re.search(r"API http://127\.0\.0\.1:(\d+)", kept)
    assert found is not None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(found[1])), timeout=5)


def test_run_py_gives_its_place_to_the_demo_so_that_a_signal_reaches_it() -> None:
    code = "import run, sys; run.become(sys.executable, '-c', 'import os; print(os.getpid())')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        printed, _ = process.communicate(timeout=60)

    assert int(printed) == process.pid


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
