"""Bad and odd requests with the answers of the checklist (docs/otlp-checklist.md), for HTTP."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.collector.emitting import Emitted, calls, json_request, json_span, protobuf
from tests.collector.running import JSON, PROTOBUF

IN_WORDS = [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "many"}}]
BOMB = gzip.compress(bytes(70 * 2**20), 1)


class Case(NamedTuple):
    point: str
    body: bytes
    status: int
    content_type: str = PROTOBUF
    headers: Mapping[str, str] = MappingProxyType({})
    path: str = "/v1/traces"


def json_body(**changes: Any) -> bytes:
    span = {**json_span(Emitted(9)), **changes}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


CASES = [
    Case("03 empty request in protobuf", b"", 200),
    Case("03 empty request in JSON", b"{}", 200, JSON),
    Case("04 empty envelopes", b"\x0a\x02\x12\x00", 200),
    Case("05 gzip", gzip.compress(calls([1])), 200, headers={"content-encoding": "gzip"}),
    Case(
        "05 gzip in two members",
        gzip.compress(b"") + gzip.compress(calls([1])),
        200,
        headers={"content-encoding": "GZIP"},
    ),
    Case("06 zstd", calls([1]), 415, headers={"content-encoding": "zstd"}),
    Case("06 deflate", zlib.compress(calls([1])), 200, headers={"content-encoding": "deflate"}),
    Case("09 too large", bytes(3 * 2**20), 413),
    Case("09 too large when decompressed", BOMB, 413, headers={"content-encoding": "gzip"}),
    Case("17 garbage in protobuf", b"\xff\xfe\xfd garbage", 400),
    Case("29 trailing slash", calls([1]), 200, path="/v1/traces/"),
    Case("33 parameters and case of the media type", json_request(Emitted(1)), 200, "Application/JSON; charset=utf-8"),
    Case("34 another media type", calls([1]), 415, "text/plain"),
    Case("34 no media type", calls([1]), 415, ""),
    Case("36 garbage in JSON", b"{not json", 400, JSON),
    Case("41 no gzip in a gzip body", calls([1]), 400, headers={"content-encoding": "gzip"}),
    Case("41 truncated gzip", gzip.compress(calls([1]))[:-9], 400, headers={"content-encoding": "gzip"}),
    Case(
        "41 something behind the gzip", gzip.compress(calls([1])) + b"tail", 400, headers={"content-encoding": "gzip"}
    ),
    Case("42 an unknown compression", calls([1]), 415, headers={"content-encoding": "rot13"}),
    Case("47 upper case hex", json_body(traceId="AB" * 16), 200, JSON),
    Case("51 unknown fields", json_body(new={"a": 1}), 200, JSON),
    Case("54 null is absent", json_body(attributes=None, status=None), 200, JSON),
    Case(
        "56 a number in words",
        json_body(attributes=[{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "many"}}]),
        400,
        JSON,
    ),
    Case("57 a list for an object", b"[]", 400, JSON),
    Case("57 a text for a list", b'{"resourceSpans":"no"}', 400, JSON),
    Case("63 deep JSON", b'{"resourceSpans":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, JSON),
    Case("unknown path", calls([1]), 404, path="/v1/nothing"),
    Case("logs in protobuf", b"", 200, path="/v1/logs"),
    Case("logs in JSON", b'{"resourceLogs":[]}', 200, JSON, path="/v1/logs"),
    Case("metrics", b"", 200, path="/v1/metrics"),
    Case("garbage logs", b"\xff\xff", 400, path="/v1/logs"),
    Case("JSON with a broken span of others", protobuf(Emitted(1, {"a": "b"})), 200),
]
