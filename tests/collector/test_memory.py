from __future__ import annotations

import gzip
import re
from pathlib import Path

import grpc
import pytest

from tests.collector.emitting import CALL, Emitted, calls, protobuf
from tests.collector.running import Child, metric, wait_for
from tests.collector.stalling import stalled
from tests.collector.test_grpc import EXPORT


@pytest.mark.slow
def test_bombs_are_refused_within_bounded_memory(tmp_path: Path, sqlite_url: str) -> None:
    child = Child(tmp_path)
    http = child.started()
    assert http.post(calls([1])).status == 200
    bomb = gzip.compress(bytes(400 * 2**20), 9)

    for _ in range(3):
        assert http.post(bomb, content_encoding="gzip").status == 413
    after_http = peak_mib(child.process.pid)
    with grpc.insecure_channel(child.grpc_address) as channel:
        method = channel.unary_unary(EXPORT, None, None)
        after_grpc = []
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as caught:
                method(bytes(400 * 2**20), timeout=60, compression=grpc.Compression.Gzip)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            after_grpc.append(peak_mib(child.process.pid))
    assert http.post(calls([2])).status == 200
    assert child.terminate() == 0

    assert after_http < 200
    # Of each at most the limit, 64 MiB; what was refused may be freed only after the next one has come.
    assert after_grpc[0] < 250
    assert after_grpc[-1] < after_http + 2 * 64 + 50


@pytest.mark.slow
def test_what_came_over_grpc_is_not_held_beyond_its_call(tmp_path: Path) -> None:
    child = Child(tmp_path)
    http = child.started()
    body = protobuf(Emitted(1, {**CALL, "prompt": "x" * 20 * 2**20}))
    with grpc.insecure_channel(child.grpc_address) as channel:
        method = channel.unary_unary(EXPORT, None, None)
        for _ in range(3):
            method(body, timeout=60)
        before = peak_mib(child.process.pid)
        for _ in range(30):
            method(body, timeout=60)
        after_taken = peak_mib(child.process.pid)
        for _ in range(30):
            with pytest.raises(grpc.RpcError):
                method(bytes(20 * 2**20), timeout=60)
        after_refused = peak_mib(child.process.pid)
    assert http.get("/healthz").status == 200
    assert child.terminate() == 0

    # Each of the sixty held would be 1,200 MiB.
    assert after_taken < before + 150
    assert after_refused < before + 150


@pytest.mark.slow
def test_slow_messages_take_bounded_memory_and_hold_up_nobody(tmp_path: Path) -> None:
    child = Child(tmp_path)
    http = child.started()
    assert http.post(calls([3])).status == 200
    wait_for(lambda: metric(http, "farebox_booked_spans_total") == 1)
    before = peak_mib(child.process.pid)
    slow = stalled(child.grpc_address, 100, 4 * 2**20, seconds=8)
    after = peak_mib(child.process.pid)
    with grpc.insecure_channel(child.grpc_address) as channel:
        assert channel.unary_unary(EXPORT, None, None)(calls([1]), timeout=5) == b""
    assert http.post(calls([2])).status == 200
    given_up = sum(call.is_ended for call in slow)
    for call in slow:
        call.close()
    assert child.terminate() == 0

    # The messages are 400 MiB together, of which at most sixteen are on their way at one time.
    assert after < before + 270
    assert given_up >= 50


def peak_mib(pid: int) -> int:
    """The most memory that the process has held so far, as Linux tells it."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) // 1024
