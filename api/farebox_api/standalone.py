"""`farebox up`: collector, API and jobs in one process, on one database; the only door between collector and API.

The first start makes what a newcomer needs: the tables, the shipped prices, an organization, and a system key that is
printed once. A later start finds them and says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Final, TypeAlias

from sqlalchemy import Engine

from farebox_api.app import create_app
from farebox_api.background import Background
from farebox_api.config import ApiConfig
from farebox_api.errors import CannotStart
from farebox_api.serving import Server
from farebox_collector.app import Collector, CollectorConfig, CollectorError
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.keys import all_keys, create_key
from farebox_ledger.store.organizations import create_organization, organization_by_slug
from farebox_ledger.store.scope import AllOrganizations

Say: TypeAlias = Callable[[str], None]

DEFAULT_ORGANIZATION: Final = "default"
"""Where senders without a key are booked; the collector takes them on loopback alone."""


async def serve_all(
    environ: Mapping[str, str], say: Say, config: ApiConfig, engine: Engine, stop: asyncio.Event
) -> None:
    """Run all until `stop` is set, then drain the API, the jobs and the collector, in this order.

    Raises:
        CannotStart: a setting of either cannot be used, an address is taken, or another collector owns the spool.
    """
    try:
        collector_config = CollectorConfig.from_environ(environ, default_org=DEFAULT_ORGANIZATION)
        admin_key = prepare_books(engine, collector_config.default_org or DEFAULT_ORGANIZATION)
        if admin_key is not None:
            say(f"farebox up: admin key {admin_key}")
        async with AsyncExitStack() as running:
            collector = Collector(collector_config, engine)
            await collector.start()
            running.push_async_callback(collector.stop)
            server = Server(create_app(config, engine), config.listen, config.tls)
            url = await server.start()
            say(collector.start_line)
            say(f"farebox up: api {url}")
            background = Background(config, engine)
            background.start()
            running.push_async_callback(background.stop)
            await server.run_until(stop)
    except CollectorError as error:
        raise CannotStart(str(error)) from None


def prepare_books(engine: Engine, default_org: str) -> str | None:
    """Make the organization and the first system key; answer the key when it was made just now.

    A system key that exists, revoked or not, shows that the start is not the first one.
    """
    everybody = AllOrganizations()
    with transaction(engine, everybody, write=True) as connection:
        if organization_by_slug(connection, default_org) is None:
            create_organization(connection, default_org)
        if any(key.org_id is None for key in all_keys(connection, everybody)):
            return None
        return create_key(connection, org_id=None, scopes=["admin"], name="first start")[1]
