"""The one place where a fault becomes an answer: RFC 9457 `application/problem+json`, for every status, on every route.

Comes in: any exception that a route, the routing or the framework raised. Goes out: a `Problem`. The `type` of a
problem is stable and safe to switch on; `title` belongs to the type; `detail` is for people. A fault of our own is
logged with its traceback and answered without any of it.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final, NamedTuple

import msgspec
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException
from litestar.openapi import ResponseSpec
from msgspec import UNSET, UnsetType
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from farebox_api.errors import (
    ApiError,
    Fault,
    Forbidden,
    InvalidRequest,
    MissingExtra,
    NotReady,
    TooManyRequests,
    Unauthenticated,
)
from farebox_ledger.errors import Conflict, DatabaseNotReady, InvalidInput, LedgerError, NotFound, Outdated
from farebox_ledger.store.idempotency import KeyReused

logger = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class Kind(NamedTuple):
    """One kind of problem: its status, the last part of its `type`, and the title that goes with it."""

    status: int
    name: str
    title: str


INVALID: Final = Kind(400, "invalid-request", "The request cannot be understood")
UNAUTHENTICATED: Final = Kind(401, "unauthenticated", "A valid key is needed")
FORBIDDEN: Final = Kind(403, "forbidden", "The key may not do this")
NOT_FOUND: Final = Kind(404, "not-found", "There is no such thing")
METHOD_NOT_ALLOWED: Final = Kind(405, "method-not-allowed", "The address does not take this method")
CONFLICT: Final = Kind(409, "conflict", "The change contradicts what stands")
PRECONDITION_FAILED: Final = Kind(412, "precondition-failed", "The thing has changed since it was read")
TOO_LARGE: Final = Kind(413, "too-large", "The body is too large")
UNSUPPORTED: Final = Kind(415, "unsupported-media-type", "The body has a media type that is not read")
KEY_REUSED: Final = Kind(422, "idempotency-key-reused", "The Idempotency-Key stands for another request")
TOO_MANY: Final = Kind(429, "too-many-requests", "The key has used up its minute")
INTERNAL: Final = Kind(500, "internal-error", "farebox made a mistake")
NOT_IMPLEMENTED: Final = Kind(501, "missing-extra", "This installation lacks an optional part")
UNAVAILABLE: Final = Kind(503, "unavailable", "farebox cannot answer now")

KINDS: Final = {
    kind.status: kind
    for kind in (
        INVALID,
        UNAUTHENTICATED,
        FORBIDDEN,
        NOT_FOUND,
        METHOD_NOT_ALLOWED,
        CONFLICT,
        PRECONDITION_FAILED,
        TOO_LARGE,
        UNSUPPORTED,
        KEY_REUSED,
        TOO_MANY,
        INTERNAL,
        NOT_IMPLEMENTED,
        UNAVAILABLE,
    )
}

_HTTP_FIELDS: Final = {"query": "parameter", "path": "parameter", "header": "parameter", "cookie": "parameter"}
_MISSING: Final = re.compile(r"Missing required \w+ parameter '([^']+)'")
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `([^`]+)`")
_MISSING_FIELD: Final = re.compile(r"required field `([^`]+)`")


class ProblemItem(msgspec.Struct, frozen=True):
    """One place in the request and what is wrong there: a parameter's name or a JSON pointer into the body."""

    detail: str
    parameter: str | UnsetType = UNSET
    pointer: str | UnsetType = UNSET


class Problem(msgspec.Struct, frozen=True):
    """What an answer says when it is not the one that was asked for (RFC 9457).

    `conflicting_id` names the thing that stands in the way of a change, where there is one.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemItem]
    request_id: str
    conflicting_id: str | UnsetType = UNSET


def problem_responses(*statuses: int) -> dict[int, ResponseSpec]:
    """Document the problems a route can answer with; 500 and 503 go with each, 429 with those with a key."""
    return {
        status: ResponseSpec(
            data_container=Problem, description=KINDS[status].title, media_type=MEDIA_TYPE, generate_examples=False
        )
        for status in sorted({*statuses, *((429,) if 401 in statuses else ()), 500, 503})
    }


def answer_fault(request: Request[Any, Any, Any], fault: Exception) -> Response[Problem]:
    """Turn whatever was raised while answering `request` into a problem."""
    kind, detail, faults = _reading(request, fault)
    if kind is INTERNAL:
        logger.error("request failed", exc_info=fault, extra={"request_id": request_id(request)})
    problem = Problem(
        type=f"urn:farebox:problem:{kind.name}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        errors=[ProblemItem(item.detail, item.parameter or UNSET, _unset(item.pointer)) for item in faults],
        request_id=request_id(request),
        conflicting_id=_unset(fault.conflicting_id if isinstance(fault, Conflict) else None),
    )
    return Response(problem, status_code=kind.status, media_type=MEDIA_TYPE, headers=_headers(request, kind, fault))


def request_id(request: Request[Any, Any, Any]) -> str:
    """The id under which this request stands in the logs; `edge` gave it."""
    return str(request.scope["state"].get("request_id", ""))


def _reading(request: Request[Any, Any, Any], fault: Exception) -> tuple[Kind, str, tuple[Fault, ...]]:
    match fault:
        case ApiError():
            return _api_reading(fault)
        case LedgerError():
            return _ledger_reading(request, fault)
        case OperationalError() | InterfaceError() | PoolTimeout():
            logger.warning("database unavailable: %s", _said(fault))
            return UNAVAILABLE, "The database does not answer; try again in a moment.", ()
        case HTTPException():
            return _http_reading(fault)
        case _:
            return INTERNAL, "The fault is logged under this request_id.", ()


def _said(fault: Exception) -> str:
    """The server's own complaint in one line: below it PostgreSQL quotes values."""
    return str(fault.__cause__ or type(fault).__name__).strip().partition("\n")[0]


def _api_reading(fault: ApiError) -> tuple[Kind, str, tuple[Fault, ...]]:
    match fault:
        case InvalidRequest():
            return INVALID, _sentence(fault.faults), fault.faults
        case Unauthenticated():
            return UNAUTHENTICATED, str(fault), ()
        case Forbidden():
            return FORBIDDEN, str(fault), ()
        case TooManyRequests():
            return TOO_MANY, str(fault), ()
        case MissingExtra():
            return NOT_IMPLEMENTED, str(fault), ()
        case NotReady():
            return UNAVAILABLE, str(fault), ()
        case _:
            return INTERNAL, "The fault is logged under this request_id.", ()


def _ledger_reading(request: Request[Any, Any, Any], fault: LedgerError) -> tuple[Kind, str, tuple[Fault, ...]]:
    match fault:
        case InvalidInput():
            faults = (_input_fault(request, fault),)
            return INVALID, _sentence(faults), faults
        case NotFound():
            return NOT_FOUND, f"The {fault.kind} {fault.name!r} does not exist, or not for this key.", ()
        case KeyReused():
            return KEY_REUSED, str(fault), ()
        case Conflict():
            return CONFLICT, str(fault), ()
        case Outdated():
            return PRECONDITION_FAILED, str(fault), ()
        case DatabaseNotReady():
            return UNAVAILABLE, str(fault), ()
        case _:
            return INTERNAL, "The fault is logged under this request_id.", ()


def _input_fault(request: Request[Any, Any, Any], fault: InvalidInput) -> Fault:
    """Place what the ledger refuses where the route took it from: a body when it has one, else the address."""
    if request.method in ("POST", "PUT", "PATCH"):
        return Fault(fault.detail, pointer="/" + fault.field.replace(".", "/"))
    return Fault(fault.detail, parameter=fault.field)


def _http_reading(fault: HTTPException) -> tuple[Kind, str, tuple[Fault, ...]]:
    match fault:
        case ValidationException():
            faults = _validation_faults(fault)
            return INVALID, _sentence(faults), faults
        case NotFoundException():
            return NOT_FOUND, "No route has this address; /schema/openapi.json lists them.", ()
        case MethodNotAllowedException():
            return METHOD_NOT_ALLOWED, "The Allow header lists the methods of this address.", ()
        case HTTPException(status_code=TOO_LARGE.status):
            return TOO_LARGE, "It is beyond FAREBOX_MAX_BODY_BYTES of the server; send it in parts.", ()
        case _:
            kind = KINDS.get(fault.status_code, INTERNAL if fault.status_code >= 500 else INVALID)
            return kind, fault.detail if kind is not INTERNAL else "The fault is logged under this request_id.", ()


def _validation_faults(fault: ValidationException) -> tuple[Fault, ...]:
    if isinstance(fault.extra, list) and fault.extra:
        return tuple(_validation_fault(item) for item in fault.extra)
    if missing := _MISSING.match(fault.detail):
        return (Fault("is required", parameter=missing[1]),)
    return (Fault(fault.detail.split(" for path ")[0]),)


def _validation_fault(item: dict[str, str]) -> Fault:
    key, message = item.get("key", ""), item["message"]
    if item.get("source") in _HTTP_FIELDS:
        return Fault(message, parameter=key)
    if message == "'data'":  # the framework's words for a request without a body
        message = "is required: expected JSON, and nothing came"
    return Fault(message, pointer=_pointer(key, message))


def _pointer(key: str, message: str) -> str:
    """Turn the framework's `items[0].usage` into a JSON pointer; a field named only in the message counts too."""
    path = "" if key in ("", "data") else "/" + re.sub(r"\[(\d+)\]", r".\1", key).replace("/", "~1").replace(".", "/")
    named = _UNKNOWN_FIELD.search(message) or _MISSING_FIELD.search(message)
    return f"{path}/{named[1]}" if named else path


def _sentence(faults: tuple[Fault, ...]) -> str:
    return "; ".join(
        f"{fault.parameter or fault.pointer}: {fault.detail}" if fault.parameter or fault.pointer else fault.detail
        for fault in faults
    )


def _unset(text: str | None) -> str | UnsetType:
    return UNSET if text is None else text


def _headers(request: Request[Any, Any, Any], kind: Kind, fault: Exception) -> dict[str, str]:
    if isinstance(fault, TooManyRequests):
        return {"Retry-After": str(fault.reset_s)}
    if kind is UNAUTHENTICATED:
        return {"WWW-Authenticate": 'Bearer realm="farebox"'}  # RFC 9110 §11.6.1
    if kind is METHOD_NOT_ALLOWED:
        return {"Allow": ", ".join(allowed_methods(request.app, request.scope["path"]))}  # RFC 9110 §15.5.6
    if kind is UNAVAILABLE:
        return {"Retry-After": str(fault.retry_after_s if isinstance(fault, NotReady) else NotReady.retry_after_s)}
    return {}


def allowed_methods(app: Litestar, path: str) -> list[str]:
    """List the methods that an address takes, those of all its routes."""
    allowed = []
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        try:
            app.asgi_router.handle_routing(path=path.rstrip("/") or "/", method=method)
        except HTTPException:
            continue
        allowed.append(method)
        if method == "GET":
            allowed.append("HEAD")
    return [*allowed, "OPTIONS"]
