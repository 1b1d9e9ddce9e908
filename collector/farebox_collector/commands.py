"""`farebox collector` and `farebox forward`: receive spans, and book them or send them on, until told to end.

Each command imports its own part when it is called: a forwarder never loads what only a collector needs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from farebox_collector.config import CollectorConfig
from farebox_collector.errors import CollectorError, SpoolInUse
from farebox_collector.logs import configure_logging
from farebox_ledger.errors import LedgerError

_DESCRIPTION = """Receive OpenTelemetry spans (OTLP over gRPC and HTTP) and book each call once, priced.

Settings come from the environment: FAREBOX_GRPC_LISTEN, FAREBOX_HTTP_LISTEN, FAREBOX_DATABASE_URL, FAREBOX_SPOOL_DIR
and others, see docs/operations.md. An empty database is made; SIGTERM and Ctrl-C finish what is in flight first."""


_FORWARD_DESCRIPTION = """Receive OpenTelemetry spans (OTLP over gRPC and HTTP) beside an app; send them to a gateway.

A gateway is a `farebox collector` elsewhere; FAREBOX_GATEWAY_ENDPOINT names it (http://gateway:4318). Each request is
acknowledged once it is on the disk, and only what the books need leaves this machine. The senders' keys are passed on.
Other settings are the collector's, see docs/operations.md; no database is needed.

With one of the options it starts nothing: it looks after the spans below FAREBOX_SPOOL_DIR that were set aside."""


class _Running(Protocol):
    @property
    def start_line(self) -> str: ...

    async def start(self) -> None: ...

    async def serve(self, stop: asyncio.Event) -> None: ...


def collector(arguments: Sequence[str]) -> int:
    """Receive spans and book them until SIGTERM or Ctrl-C.

    The exit code: 0 after a clean end, 2 when a setting or something already running is in the way.
    """
    _parser("farebox collector", _DESCRIPTION).parse_args(list(arguments))
    _silence_grpc()
    from farebox_collector.app import Collector

    return _served("farebox collector", Collector)


def forward(arguments: Sequence[str]) -> int:
    """Receive spans and send them on to a gateway until SIGTERM or Ctrl-C.

    The exit code: 0 after a clean end, 2 when a setting or something already running is in the way.
    """
    parser = _parser("farebox forward", _FORWARD_DESCRIPTION)
    aside = parser.add_mutually_exclusive_group()
    aside.add_argument("--list-quarantine", action="store_true", help="list the spans that were set aside, and end")
    aside.add_argument(
        "--retry-quarantine",
        action="store_true",
        help="let the spans wait again that the gateway could not read, and end; the forwarder has to be stopped",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (the two options above)")
    options = parser.parse_args(list(arguments))
    if options.list_quarantine:
        return _looked_after("farebox forward", partial(_list_quarantine, as_json=options.json))
    if options.retry_quarantine:
        return _looked_after("farebox forward", partial(_retry_quarantine, as_json=options.json))
    if options.json:
        parser.error("--json needs --list-quarantine or --retry-quarantine")
    _silence_grpc()
    from farebox_collector.forwarder import Forwarder

    return _served("farebox forward", Forwarder)


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=command, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def _silence_grpc() -> None:
    """Keep the lines of grpc's core out of the log, in which they are neither text nor JSON of ours.

    It reads the variable when it is imported; whoever wants the lines sets it.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _looked_after(command: str, work: Callable[[Path], None]) -> int:
    """Do something with the forwarder's spool folder instead of starting it."""
    from farebox_collector.forwarder import FOLDER

    try:
        work(CollectorConfig.from_environ(os.environ).spool_dir / FOLDER)
    except CollectorError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1 if isinstance(error, SpoolInUse) else 2
    return 0


def _list_quarantine(folder: Path, *, as_json: bool) -> None:
    from farebox_collector.forwarding.quarantine import held

    found = held(folder)
    if as_json:
        print(json.dumps(list(found), indent=2))
        return
    for one in found:
        print(
            "  ".join(str(one[name] or "-") for name in ("received_at", "reason", "key_prefix", "trace_id", "detail"))
        )


def _retry_quarantine(folder: Path, *, as_json: bool) -> None:
    from farebox_collector.forwarding.quarantine import put_back

    spans = put_back(folder)
    print(json.dumps({"spans": spans}) if as_json else f"{spans} spans will be sent again with the next start")


def _served(command: str, make: Callable[[CollectorConfig], _Running]) -> int:
    try:
        config = CollectorConfig.from_environ(os.environ)
        configure_logging(config.log_level, config.log_format)
        asyncio.run(_run(config, make))
    except (CollectorError, LedgerError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    return 0


async def _run(config: CollectorConfig, make: Callable[[CollectorConfig], _Running]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    running = make(config)
    await running.start()
    print(running.start_line, flush=True)
    await running.serve(stop)
