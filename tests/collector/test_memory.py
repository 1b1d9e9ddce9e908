from __future__ import annotations

import gzip
import re
from pathlib import Path

import grpc
import pytest

from tests.collector.emitting import calls
from tests.collector.running import Child
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
        method = channel.unary_unary(EXPORT)
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


def peak_mib(pid: int) -> int:
    """The most memory that the process has held so far, as Linux tells it."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) // 1024
