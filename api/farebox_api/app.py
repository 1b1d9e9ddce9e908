"""The composition root of the API: makes the application from its settings and an open database.

Layers from the outside: `edge` (ids, headers, log), faults as problems, `auth` (who), guards (may they), strict
parameters (what), routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Litestar, Request, Router
from litestar.config.compression import CompressionConfig
from litestar.di import Provide
from litestar.types import ControllerRouterHandler
from sqlalchemy import Engine

from farebox_api.access import Books
from farebox_api.auth import Authentication
from farebox_api.bodies import RawRequest
from farebox_api.catalog import Catalog
from farebox_api.config import ApiConfig
from farebox_api.edge import Edge
from farebox_api.idempotency import Idempotency, change_of
from farebox_api.openapi import SECURITY, StrictParameters, correct, openapi_config
from farebox_api.price_syncing import PriceSyncing
from farebox_api.problems import answer_fault, request_id
from farebox_api.routes import (
    alerts,
    audit,
    budgets,
    credit_accounts,
    credit_grants,
    credit_transactions,
    drift,
    exports,
    keys,
    me,
    model_aliases,
    model_configs,
    month_statements,
    multipliers,
    organizations,
    overview,
    price_overrides,
    price_policies,
    price_syncs,
    prices,
    projects,
    quarantine,
    recording,
    repair,
    summaries,
    system,
    upstreams,
    usage,
    users,
    webhooks,
)
from farebox_api.telemetry import Telemetry
from farebox_ledger.recording import WriterSlot
from farebox_ledger.store.audit import Actor
from farebox_ledger.store.key_uses import KeyUses
from farebox_ledger.store.rate_limits import RateLimits

V1_ROUTES: Sequence[ControllerRouterHandler] = (
    *overview.ROUTES,
    *summaries.ROUTES,
    *month_statements.ROUTES,
    *usage.ROUTES,
    *me.ROUTES,
    *recording.ROUTES,
    *exports.ROUTES,
    *organizations.ROUTES,
    *users.ROUTES,
    *projects.ROUTES,
    *audit.ROUTES,
    *keys.ROUTES,
    *prices.ROUTES,
    *price_syncs.ROUTES,
    *price_overrides.ROUTES,
    *multipliers.ROUTES,
    *model_aliases.ROUTES,
    *model_configs.ROUTES,
    *upstreams.ROUTES,
    *repair.ROUTES,
    *budgets.ROUTES,
    *alerts.ROUTES,
    *webhooks.ROUTES,
    *drift.ROUTES,
    *price_policies.ROUTES,
    *quarantine.ROUTES,
    *credit_accounts.ROUTES,
    *credit_grants.ROUTES,
    *credit_transactions.ROUTES,
)


def create_app(config: ApiConfig, engine: Engine) -> Litestar:
    """Make the application. `engine` stays the caller's: it is neither migrated nor disposed of here."""
    telemetry, strict, uses = Telemetry(), StrictParameters(), KeyUses(engine)
    app = Litestar(
        route_handlers=[*system.ROUTES, _v1(config, engine)],
        dependencies={
            "engine": Provide(lambda: engine, sync_to_thread=False),
            "telemetry": Provide(lambda: telemetry, sync_to_thread=False),
            "uses": Provide(lambda: uses, sync_to_thread=False),
        },
        middleware=[
            Authentication(engine, config.admin_key, RateLimits(engine), uses, config.requests_per_minute),
            Idempotency(engine, config.max_body_bytes),
        ],
        before_request=strict,
        exception_handlers={Exception: answer_fault},
        request_class=RawRequest,
        openapi_config=openapi_config(),
        compression_config=CompressionConfig(backend="gzip", minimum_size=1024),
        request_max_body_size=config.max_body_bytes,
        logging_config=None,
        debug=False,
    )
    strict.learn(correct(app.openapi_schema))
    app.asgi_handler = Edge(app.asgi_handler, telemetry)
    return app


def _v1(config: ApiConfig, engine: Engine) -> Router:
    catalog = Catalog(engine)

    def books(request: Request[Any, Any, Any]) -> Books:
        actor = Actor("key", request.user.key_id, str(request.route_handler.operation_id), request_id(request))
        return Books(engine, request.user, change=change_of(request.scope), actor=actor)

    slot = WriterSlot(engine, "api")
    syncing = PriceSyncing(engine, config.price_sync_url)
    return Router(
        "/v1",
        route_handlers=V1_ROUTES,
        dependencies={
            "books": Provide(books, sync_to_thread=False),
            "catalog": Provide(lambda: catalog, sync_to_thread=False),
            "slot": Provide(lambda: slot, sync_to_thread=False),
            "syncing": Provide(lambda: syncing, sync_to_thread=False),
        },
        security=SECURITY,
    )
