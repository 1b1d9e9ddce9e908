"""The commands `farebox api` and `farebox up`: read the settings, start, wait for the end, answer the exit code."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import Engine

from farebox_api.config import ApiConfig
from farebox_api.errors import CannotStart
from farebox_api.logs import configure_logging
from farebox_ledger.errors import InvalidInput, LedgerError
from farebox_ledger.store.engine import default_database_url, open_engine
from farebox_ledger.store.migrations import ensure_schema
from farebox_ledger.store.prices import ensure_shipped_prices

Service: TypeAlias = Callable[[ApiConfig, Engine, asyncio.Event], Coroutine[Any, Any, None]]

_API_HELP = "Serve the API on FAREBOX_API_LISTEN and run jobs, over the database of FAREBOX_DATABASE_URL."
_UP_HELP = """\
Run collector, API and jobs in one process. The first start makes the database (an SQLite file unless
FAREBOX_DATABASE_URL says otherwise), loads the shipped prices and prints the admin key once."""


def api(arguments: list[str]) -> int:
    """Serve the API until SIGTERM or Ctrl-C."""
    argparse.ArgumentParser("farebox api", description=_API_HELP).parse_args(arguments)
    return _run("farebox api", _serve_api)


def up(arguments: list[str]) -> int:
    """Run collector and API in one process until SIGTERM or Ctrl-C."""
    argparse.ArgumentParser("farebox up", description=_UP_HELP).parse_args(arguments)
    from farebox_api.standalone import serve_all

    return _run("farebox up", partial(serve_all, os.environ, _say))


async def _serve_api(config: ApiConfig, engine: Engine, stop: asyncio.Event) -> None:
    from farebox_api.app import create_app
    from farebox_api.background import Background
    from farebox_api.serving import Server

    server, background = Server(create_app(config, engine), config.listen, config.tls), Background(config, engine)
    _say(f"farebox api: {await server.start()}")
    background.start()
    try:
        await server.run_until(stop)
    finally:
        await background.stop()


def _run(command: str, service: Service) -> int:
    """Run a service over its database; what the operator can cure is one line on standard error.

    The exit code is 0 after a clean end, 1 when the database is not ready, 2 when a setting is in the way.
    """
    try:
        config = ApiConfig.from_environ(os.environ)
        configure_logging(config.log_level, config.log_format)
        engine = open_engine(config.database_url or default_database_url())
        try:
            ensure_schema(engine)
            ensure_shipped_prices(engine)
            asyncio.run(_until_signalled(service, config, engine))
        finally:
            engine.dispose()
    except (CannotStart, InvalidInput) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 2
    except LedgerError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1
    return 0


def _say(line: str) -> None:
    """Print a line that others wait for, at once."""
    print(line, flush=True)


async def _until_signalled(service: Service, config: ApiConfig, engine: Engine) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows has no signal handlers in its event loop
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    await service(config, engine, stop)
