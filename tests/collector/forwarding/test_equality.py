"""A row that came through a forwarder is the row that the gateway would have booked of the same bytes itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import create_engine, text

from farebox_ledger.store.engine import owner_transaction
from tests.collector.dialects.test_agent_logs import CLAUDE, CODEX, CODEX_SCOPE
from tests.collector.dialects.test_agent_logs import as_json as logs_as_json
from tests.collector.dialects.test_agent_logs import protobuf as logs_as_protobuf
from tests.collector.forwarding.traces import as_json, as_protobuf
from tests.collector.running import JSON, Forward, Http, config_for, metric, running, wait_for
from tests.collector.test_grpc import EXPORT
from tests.collector.test_logs import LOGS

WHAT_WAS_SENT = 23 + 2
"""Spans of the traces, the one of others among them, and records."""


def over_grpc(http: Http, grpc_address: str) -> None:
    with grpc.insecure_channel(grpc_address) as opened:
        channel: Any = opened  # the stubs ask for what has defaults
        assert channel.unary_unary(EXPORT)(as_protobuf(), timeout=20) == b""
        send_logs = channel.unary_unary(LOGS)
        assert send_logs(logs_as_protobuf(CLAUDE), timeout=20) == b""
        assert send_logs(logs_as_protobuf(CODEX, scope=CODEX_SCOPE), timeout=20) == b""


def over_http(http: Http, grpc_address: str) -> None:
    assert http.post(as_protobuf()).status == 200
    assert http.post(logs_as_protobuf(CLAUDE), path="/v1/logs").status == 200
    assert http.post(logs_as_protobuf(CODEX, scope=CODEX_SCOPE), path="/v1/logs").status == 200


def over_json(http: Http, grpc_address: str) -> None:
    assert http.post(as_json(), JSON).status == 200
    assert http.post(logs_as_json(CLAUDE), JSON, "/v1/logs").status == 200
    assert http.post(logs_as_json(CODEX, scope=CODEX_SCOPE), JSON, "/v1/logs").status == 200


@pytest.mark.parametrize("send", [over_grpc, over_http, over_json])
def test_rows_are_the_same_with_and_without_the_hop(
    tmp_path: Path, sqlite_template: Path, send: Callable[[Http, str], None]
) -> None:
    databases = [tmp_path / "direct.db", tmp_path / "forwarded.db"]
    for database in databases:
        shutil.copy(sqlite_template, database)

    with collector(tmp_path / "direct", databases[0]) as direct:
        send(direct.http, direct.grpc_address)
        direct.wait_until_booked()
    with collector(tmp_path / "gateway", databases[1]) as gateway:
        forwarder = Forward(tmp_path / "forward", gateway.http.port)
        http = forwarder.started()
        send(http, forwarder.grpc_address)
        wait_for(lambda: metric(http, "farebox_forwarded_spans_total") == WHAT_WAS_SENT - 1)
        gateway.wait_until_booked()
        assert metric(http, "farebox_accepted_spans_total") == WHAT_WAS_SENT
        assert metric(http, "farebox_not_genai_spans_total") == 1
        assert metric(http, "farebox_conservation_difference") == 0
        assert forwarder.terminate() == 0

    direct_rows, forwarded_rows = map(all_rows, databases)
    assert forwarded_rows == direct_rows
    assert {row["dialect"] for row in direct_rows} == {
        "farebox", "semconv", "botocore", "anthropic_native", "langfuse", "litellm", "openinference", "openlit",
        "openllmetry", "pydantic_ai", "strands", "vercel", "claude_code", "codex",
    }  # fmt: skip
    assert len(direct_rows) > 20


def collector(folder: Path, database: Path) -> Any:
    return running(config_for(folder, database_url=f"sqlite:///{database}"))


def all_rows(database: Path) -> list[dict[str, Any]]:
    """Every column of every row but the time of receipt, which is a test's own moment."""
    engine = create_engine(f"sqlite:///{database}")
    with owner_transaction(engine) as connection:
        found = connection.execute(text("SELECT * FROM usage_rows ORDER BY trace_id, span_id")).mappings()
        rows = [{name: value for name, value in row.items() if name != "received_at_us"} for row in found]
    engine.dispose()
    return rows
