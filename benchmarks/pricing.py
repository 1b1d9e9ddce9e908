"""What it costs to find a price and to calculate a charge, beside one exact multiplication in the same process.

Run: .venv/bin/python benchmarks/pricing.py

The floor is one Decimal multiplication with its rounding to pico-units (`money.line_amount`), the least that any exact
line costs. Thread CPU time, warm, on one core; only the ratios carry over to other machines.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from farebox_ledger.catalog import shipped_prices, shipped_snapshots
from farebox_ledger.money import line_amount
from farebox_ledger.pricing import Match, PriceBook, PricingRequest
from farebox_ledger.pricing.calculate import calculate
from farebox_ledger.usage import Usage

ROUNDS = 25
CALLS = 4_000
AT_US = 1_790_000_000_000_000  # 2026-09-21

REQUEST = PricingRequest(
    provider="openai",
    request_model="gpt-4o",
    response_model="gpt-4o-2024-08-06",
    at_us=AT_US,
    usage=Usage(input_tokens=2006, cache_read_input_tokens=1920, output_tokens=300),
)


def main() -> None:
    started = time.perf_counter()
    prices = [price for snapshot in shipped_snapshots() for price in shipped_prices(snapshot).prices]
    read = time.perf_counter()
    book = PriceBook(prices, 1)
    built = time.perf_counter()
    match = book.resolve(REQUEST)
    assert isinstance(match, Match)
    lines = len(calculate(match, REQUEST).lines)
    quantity, rate, one = Decimal(2006), Decimal("0.0000025"), Decimal(1)
    figures = interleaved(
        {
            "one Decimal line (floor)": lambda: line_amount(quantity, rate, one),
            "resolve": lambda: book.resolve(REQUEST),
            f"calculate, {lines} lines": lambda: calculate(match, REQUEST),
            "charge (both)": lambda: book.charge(REQUEST),
        }
    )
    floor = figures["one Decimal line (floor)"]
    print(f"{'what':28} {'us/call':>8} {'x floor':>8}")
    for name, cost_us in figures.items():
        print(f"{name:28} {cost_us:8.2f} {cost_us / floor:8.2f}")
    print(f"\n{len(book)} prices: read in {read - started:.2f} s, book built in {built - read:.2f} s")
    print(f"memory of the loaded book: {memory_of_the_book_mib():.0f} MiB")


def interleaved(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Time each call in turn, round after round; answers the medians in microseconds."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun = time.thread_time_ns()
            for _ in range(CALLS):
                call()
            samples[name].append((time.thread_time_ns() - begun) / CALLS / 1_000)
    return {name: statistics.median(times) for name, times in samples.items()}


def memory_of_the_book_mib() -> float:
    """Memory of a fresh process that holds the book, less that of one that only imports what is needed."""
    return resident_mib("--book") - resident_mib("--imports")


def resident_mib(mode: str) -> float:
    done = subprocess.run([sys.executable, __file__, mode], capture_output=True, text=True, check=True)
    return float(done.stdout)


def report_resident(mode: str) -> None:
    book = None
    if mode == "--book":
        book = PriceBook((price for snapshot in shipped_snapshots() for price in shipped_prices(snapshot).prices), 1)
    # Linux's own reading: `ru_maxrss` would start at the size of the process that ran this one.
    resident = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert resident
    print(int(resident[1]) / 1024)
    del book


if __name__ == "__main__":
    if len(sys.argv) > 1:
        report_resident(sys.argv[1])
    else:
        main()
