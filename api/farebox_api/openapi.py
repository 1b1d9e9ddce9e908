"""The OpenAPI document: what the framework derives from the routes, corrected where that differs from what they do.

The corrected document is also the law of the addresses: `StrictParameters` refuses what it does not name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from importlib.metadata import version
from typing import Any, Final

from litestar import Request, Router
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, OpenAPI, OpenAPIType, Operation, Schema, SecurityScheme
from litestar.openapi.spec.parameter import Parameter
from litestar.types import ControllerRouterHandler

from farebox_api.auth import PUBLIC
from farebox_api.bodies import Input
from farebox_api.idempotency import HEADER, PATTERN
from farebox_api.parameters import HELD_SLASH, Rule, check
from farebox_api.problems import CONFLICT, KEY_REUSED, TOO_LARGE, Kind

SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"api_key": []}]
"""Either header opens a route; put on the router of all routes that need a key."""

_DESCRIPTION: Final = """\
What applications spend on LLMs, row by row and in sums.

Money is a decimal string beside its `currency`; null is not known, which is not zero. Times are RFC 3339 in UTC with
microseconds; ranges are half-open [start, end). Every fault is answered as `application/problem+json` (RFC 9457).
A key of an organization sees that organization alone; a system key sees all of them.
"""


class DocumentRouter(Router):
    """Serves the document as JSON and nothing else: without the framework's own HTML page for unknown addresses."""

    def register(self, value: ControllerRouterHandler) -> list[Any]:
        """Leave out the page for unknown addresses; they are answered as everywhere else."""
        if "/{path:str}" in getattr(value, "paths", ()):
            return []
        return super().register(value)


def openapi_config() -> OpenAPIConfig:
    """Configure the framework to derive the document and to serve it at /schema/openapi.json, without any CDN."""
    return OpenAPIConfig(
        title="farebox",
        version=version("farebox"),
        description=_DESCRIPTION,
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer", description="Authorization: Bearer KEY"),
                "api_key": SecurityScheme(
                    type="apiKey", name="x-api-key", security_scheme_in="header", description="x-api-key: KEY"
                ),
            }
        ),
        openapi_router=DocumentRouter("/schema", route_handlers=[], include_in_schema=False, opt={PUBLIC: True}),
        render_plugins=[JsonRenderPlugin(media_type="application/json")],  # type: ignore[arg-type]
        use_handler_docstrings=True,
    )


class StrictParameters:
    """Refuses, before a route reads its parameters, what the document does not allow."""

    def __init__(self) -> None:
        """Know no route yet."""
        self._rules: dict[str, dict[str, Rule]] = {}

    def learn(self, document: OpenAPI) -> None:
        """Take the rules from the document; routes outside of it are left alone."""
        for operation in operations(document):
            queries = (item for item in _parameters(operation) if item.param_in == "query")
            self._rules[str(operation.operation_id)] = {item.name: _rule(item) for item in queries}

    async def __call__(self, request: Request[Any, Any, Any]) -> None:
        """Check one request; runs after its key was checked. Names in its address get their slashes back."""
        path_parameters = request.scope["path_params"]
        for name, value in path_parameters.items():
            if isinstance(value, str):
                path_parameters[name] = value.replace(HELD_SLASH, "/")
        rules = self._rules.get(str(request.route_handler.operation_id))
        if rules is not None:
            check(request.query_params.multi_items(), rules)


def correct(document: OpenAPI) -> OpenAPI:
    """Make the derived document say what the routes do.

    A parameter that may be absent can still not be null, and a body with an unknown member is refused.
    """
    for operation in operations(document):
        for parameter in _parameters(operation):
            if isinstance(parameter.schema, Schema):
                _take_out_null(parameter.schema)
    for operation in _changing(document):
        _take_idempotency_key(operation)
        if operation.request_body is not None:
            _take_response(operation, TOO_LARGE)
    bodies = {shape.__name__ for shape in Input.__subclasses__()}
    for name, schema in (document.components.schemas or {}).items():
        if name in bodies:
            schema.additional_properties = False
    return document


def operations(document: OpenAPI) -> Iterator[Operation]:
    """Answer every operation of the document."""
    for item in (document.paths or {}).values():
        for operation in (item.get, item.put, item.post, item.delete, item.patch):
            if operation is not None:
                yield operation


def _changing(document: OpenAPI) -> Iterator[Operation]:
    for item in (document.paths or {}).values():
        yield from (found for found in (item.put, item.post, item.delete, item.patch) if found is not None)


def _take_idempotency_key(operation: Operation) -> None:
    """Say what `idempotency` does before the route: it takes a header and may answer 409 or 422."""
    if any(parameter.name == HEADER for parameter in _parameters(operation)):
        return
    schema = Schema(type=OpenAPIType.STRING, min_length=1, max_length=255, pattern=PATTERN)
    described = "The same request with the same key acts once; a repetition gets the first answer, for 24 hours."
    header = Parameter(name=HEADER, param_in="header", schema=schema, description=described)
    operation.parameters = [*(operation.parameters or ()), header]
    for kind in (CONFLICT, KEY_REUSED):
        _take_response(operation, kind)


def _take_response(operation: Operation, kind: Kind) -> None:
    responses = operation.responses or {}
    responses.setdefault(str(kind.status), replace(responses["401"], description=kind.title))


def _parameters(operation: Operation) -> list[Parameter]:
    return [item for item in operation.parameters or () if isinstance(item, Parameter)]


def _rule(parameter: Parameter) -> Rule:
    schema = parameter.schema
    if not isinstance(schema, Schema):
        return Rule()
    return Rule(
        is_list=schema.type == OpenAPIType.ARRAY,
        is_integer=schema.type == OpenAPIType.INTEGER,
        choices=tuple(str(choice) for choice in schema.enum or ()),
    )


def _take_out_null(schema: Schema) -> None:
    """Turn `oneOf: [X, null]` with its constraints outside, or an enumeration with null, into the plain thing."""
    if schema.enum and isinstance(schema.type, list):
        schema.enum = [choice for choice in schema.enum if choice is not None]
        schema.type = OpenAPIType.STRING
        return
    kept = [item for item in schema.one_of or () if not (isinstance(item, Schema) and item.type == OpenAPIType.NULL)]
    if len(kept) != 1 or not isinstance(kept[0], Schema):
        return
    schema.one_of = None
    for field in fields(Schema):
        if getattr(schema, field.name) is None:
            setattr(schema, field.name, getattr(kept[0], field.name))
