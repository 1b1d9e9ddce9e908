"""The whole line once, as a newcomer sees it: `python3 run.py demo [--keep]`.

A fake provider answers the real openai and anthropic SDKs of two small apps; their spans reach a collector, become
priced rows, and are read back from the API. Ends with exit code 1, naming the call, when one is missing, doubled or
unpriced.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.end_to_end.line import Farebox, run_app, running_farebox
from tests.fakes.provider import FakeProvider, Served

ORGANIZATIONS = ("acme", "globex")
COLUMNS = (
    "provider",
    "model",
    "operation",
    "status",
    "input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "cost",
)


def main(arguments: list[str]) -> int:
    # An end by SIGTERM takes everything along that was started here, as one by Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with (
        tempfile.TemporaryDirectory(prefix="farebox-demo-") as folder,
        FakeProvider() as provider,
        running_farebox(Path(folder)) as farebox,
    ):
        return demonstrate(farebox, provider, keep="--keep" in arguments)


def demonstrate(farebox: Farebox, provider: FakeProvider, *, keep: bool) -> int:
    for slug in ORGANIZATIONS:
        print(f"demo: {slug} runs its app: FAREBOX_ENABLED=1 python app.py")
        run_app(farebox, provider.url, farebox.make_organization(slug))
    wanted = len(provider.served) // len(ORGANIZATIONS)
    rows = {slug: farebox.wait_for_rows(slug, wanted) for slug in ORGANIZATIONS}
    for slug in ORGANIZATIONS:
        print_rows(slug, rows[slug])
        print_month(slug, farebox.get(f"/v1/organizations/{slug}/summary")["month"])
    everything = [row for slug in ORGANIZATIONS for row in rows[slug]]
    problems = differences(provider.served, everything)
    for problem in problems:
        print(f"demo: {problem}", file=sys.stderr)
    if keep:
        wait_for_interrupt(farebox)
    priced = [row for row in everything if row["cost"] is not None]
    total = sum((Decimal(row["cost"]) for row in priced), Decimal(0))
    print(f"demo: {calls_with_usage(provider.served)} calls, {len(priced)} priced rows, total USD {total:f}")
    return 1 if problems else 0


def calls_with_usage(served: Iterable[Served]) -> int:
    return sum(1 for call in served if call.usage is not None)


def differences(served: Iterable[Served], rows: Iterable[dict[str, Any]]) -> list[str]:
    """Compare what the provider billed with what was booked; answers one line per difference.

    Calls are told apart by response id; embeddings have none and are told apart by model.
    """
    billed = Counter(call.response_id or call.model for call in served if call.usage is not None)
    with_usage = [row for row in rows if row["input_tokens"] is not None]
    booked = Counter(row["response_id"] or row["request_model"] for row in with_usage)
    counts = [
        f"{name}: answered {billed[name]} times, booked {booked[name]} times"
        for name in sorted(billed | booked, key=str)
        if billed[name] != booked[name]
    ]
    unpriced = [
        f"{row['request_model']}: row {row['id']} is {row['billing_status']} because of {row['reason']}"
        for row in with_usage
        if row["cost"] is None
    ]
    return counts + unpriced


def print_rows(slug: str, rows: list[dict[str, Any]]) -> None:
    table = [COLUMNS, *([cell(row[name]) for name in COLUMNS] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    print(f"\nGET /v1/usage?organization={slug}")
    for line in table:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def cell(value: object) -> str:
    return "-" if value is None else str(value)


def print_month(slug: str, month: dict[str, Any]) -> None:
    print(f"\nGET /v1/organizations/{slug}/summary: this month (UTC)")
    for name in ("requests", "errors", "input_tokens", "output_tokens", "total_tokens", "cost", "currency"):
        print(f"  {name:15} {cell(month[name])}")
    print()


def wait_for_interrupt(farebox: Farebox) -> None:
    addresses = f"API {farebox.api_url}, OTLP {farebox.otlp_http_url}"
    print(f"demo: {addresses}, admin key {farebox.admin_key}; Ctrl-C ends it", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
