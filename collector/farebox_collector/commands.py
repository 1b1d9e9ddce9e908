"""`farebox collector`: receive spans and book them until the process is told to end."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from farebox_collector.app import Collector
from farebox_collector.config import CollectorConfig
from farebox_collector.errors import CollectorError
from farebox_collector.logs import configure_logging
from farebox_ledger.errors import LedgerError

_DESCRIPTION = """Receive OpenTelemetry spans (OTLP over gRPC and HTTP) and book each call once, priced.

Settings come from the environment: FAREBOX_GRPC_LISTEN, FAREBOX_HTTP_LISTEN, FAREBOX_DATABASE_URL, FAREBOX_SPOOL_DIR
and others, see docs/operations.md. An empty database is made; SIGTERM and Ctrl-C finish what is in flight first."""


def collector(arguments: Sequence[str]) -> int:
    """Receive spans and book them until SIGTERM or Ctrl-C.

    The exit code: 0 after a clean end, 2 when a setting or something already running is in the way.
    """
    parser = argparse.ArgumentParser(
        prog="farebox collector", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(list(arguments))
    try:
        config = CollectorConfig.from_environ(os.environ)
        configure_logging(config.log_level, config.log_format)
        asyncio.run(_run(config))
    except (CollectorError, LedgerError) as error:
        print(f"farebox collector: {error}", file=sys.stderr)
        return 2
    return 0


async def _run(config: CollectorConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    running = Collector(config)
    await running.start()
    print(running.start_line, flush=True)
    await running.serve(stop)
