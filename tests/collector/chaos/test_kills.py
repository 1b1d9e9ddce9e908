"""Laws 1, 2, 10: a collector that is killed or ended at any moment, its start included, loses and doubles nothing."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.collector.chaos.accounts import audit
from tests.collector.chaos.sending import Senders
from tests.collector.running import TIMEOUT_S, Child

SEED_VARIABLE = "FAREBOX_CHAOS_SEED"
LONGEST_START_S = 4.0  # two on a quiet machine, as `test_killed.py` asks; senders that go on share the cores here
DURING_START = 0.2
"""The share of processes that are ended before they say that they have started."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_fifty_ends_at_random_moments_lose_and_double_nothing(
    tmp_path: Path, sqlite_url: str, sqlite_engine: Engine, ended_by: signal.Signals
) -> None:
    survive(tmp_path, sqlite_url, sqlite_engine, ended_by, 50)


@pytest.mark.parametrize(("ended_by", "times"), [(signal.SIGKILL, 12), (signal.SIGTERM, 8)], ids=["kill", "term"])
def test_ends_at_random_moments_lose_and_double_nothing_on_postgresql(
    tmp_path: Path, postgres_url: str, postgres_engine: Engine, ended_by: signal.Signals, times: int
) -> None:
    survive(tmp_path, postgres_url, postgres_engine, ended_by, times)


def survive(folder: Path, url: str, engine: Engine, ended_by: signal.Signals, times: int) -> None:
    """End the collector again and again under senders that go on, then compare the books with what they were told."""
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(2**32))
    print(f"{SEED_VARIABLE}={seed}")
    chance = random.Random(seed)
    child = Child(folder, FAREBOX_DATABASE_URL=url)
    http = child.started()
    settings = {
        "FAREBOX_DATABASE_URL": url,
        "FAREBOX_HTTP_LISTEN": f"127.0.0.1:{http.port}",
        "FAREBOX_GRPC_LISTEN": child.grpc_address,
    }
    starts_s = []
    with Senders(http.port, child.grpc_address, seed=seed) as senders:
        is_started = True
        for _ in range(times):
            time.sleep(chance.uniform(0.0, 0.5 if is_started else 0.9))
            child.process.send_signal(ended_by)
            child.process.communicate(timeout=2 * TIMEOUT_S)
            if ended_by is signal.SIGTERM and is_started:
                assert child.process.returncode == 0
            started = time.monotonic()
            child = Child(folder, **settings)
            is_started = chance.random() > DURING_START
            if is_started:
                child.started()
                starts_s.append(time.monotonic() - started)
        if not is_started:
            child.started()
    assert child.terminate() == 0

    assert senders.told.failed_tries > times / 2
    assert len(senders.told.acknowledged) > 20 * times
    assert statistics.median(starts_s) < LONGEST_START_S
    audit(engine, senders.told.acknowledged, folder / "spool")
