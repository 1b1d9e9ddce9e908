"""What operators and probes ask, without a key: is it alive, can it answer, what are its figures."""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from sqlalchemy import Engine, text

from farebox_api.auth import PUBLIC
from farebox_api.errors import NotReady
from farebox_api.problems import problem_responses
from farebox_api.telemetry import CONTENT_TYPE, Telemetry
from farebox_ledger.store.migrations import schema_state


class Health(msgspec.Struct, frozen=True):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Readiness(msgspec.Struct, frozen=True):
    """The process can answer: its database does, and the schema is the one that it knows."""

    status: Literal["ready"] = "ready"
    database: Literal["ok"] = "ok"
    schema: Literal["current"] = "current"


@get(
    "/healthz",
    operation_id="health",
    summary="Is it alive",
    tags=["system"],
    opt={PUBLIC: True},
    responses=problem_responses(400),
    sync_to_thread=False,
)
def health() -> Health:
    """Answer as long as the process can answer anything; looks at nothing else."""
    return Health()


@get(
    "/readyz",
    operation_id="readiness",
    summary="Can it answer",
    tags=["system"],
    opt={PUBLIC: True},
    responses=problem_responses(400),
    sync_to_thread=True,
)
def readiness(engine: NamedDependency[SkipValidation[Engine]]) -> Readiness:
    """Ask the database, and whether its schema is current; 503 says what is missing."""
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    state = schema_state(engine)
    if state != "current":
        raise NotReady(f"The database's schema is {state}; run `farebox migrate` with this version of farebox.")
    return Readiness()


@get(
    "/metrics",
    operation_id="metrics",
    summary="Figures for Prometheus",
    tags=["system"],
    opt={PUBLIC: True},
    media_type=MediaType.TEXT,
    responses=problem_responses(400),
    sync_to_thread=False,
)
def metrics(telemetry: NamedDependency[SkipValidation[Telemetry]]) -> Response[str]:
    """Answer the API's own figures in Prometheus' text format; no tenant's data is among them."""
    return Response(telemetry.exposition().decode(), headers={"Content-Type": CONTENT_TYPE})


ROUTES = (health, readiness, metrics)
