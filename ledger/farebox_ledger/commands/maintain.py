"""`farebox maintain`: run the jobs of the queue, and nothing else, until told to stop or until none waits."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Sequence

from farebox_ledger.commands.opening import guarded, opened_database
from farebox_ledger.errors import LedgerError
from farebox_ledger.jobs import kinds_with, run_jobs
from farebox_ledger.price_schedule import schedule_of

_DESCRIPTION = """\
Run jobs such as re-pricing over the database of FAREBOX_DATABASE_URL. `farebox up` and `farebox api` do that as well;
any number of processes may, each job runs in one of them. Prices are synced when FAREBOX_PRICE_SYNC_INTERVAL is set."""


class JobsFailed(LedgerError):
    """Some of the jobs failed; each keeps its reason."""


def maintain(arguments: Sequence[str]) -> int:
    """Run jobs until SIGTERM or Ctrl-C.

    The exit code: 0 after a clean end, 1 when the database cannot be used or, with `--once`, a job failed, 2 wrong use.
    """
    parser = argparse.ArgumentParser("farebox maintain", description=_DESCRIPTION)
    parser.add_argument("--once", action="store_true", help="end when no job waits; exit code 1 when one failed")
    options = parser.parse_args(arguments)
    return guarded("farebox maintain", lambda: _maintain(once=options.once))


def _maintain(*, once: bool) -> None:
    kinds = kinds_with(schedule_of(os.environ))
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with opened_database() as engine:
        failed = run_jobs(engine, stop, kinds, until_idle=once)
    if once and failed:
        raise JobsFailed(f"{failed} jobs failed; their reasons stand with them")
