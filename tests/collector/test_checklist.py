"""The OTLP server checklist, one test a point, on every wire that the point is about (docs/otlp-checklist.md).

Points that another test shows are named there.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from sqlalchemy import create_engine

from farebox_collector.config import CollectorConfig
from farebox_collector.errors import Malformed, Refused
from farebox_collector.intake import Receipt
from farebox_collector.receiver.answers import receipt_body, status_body
from tests.collector.emitting import CALL, Emitted, Value, calls, json_span, protobuf
from tests.collector.running import JSON, PROTOBUF, Answer, Running, config_for, rows, running
from tests.collector.wires import EXPORT, WIRES, Grpc, HttpJson, HttpProtobuf, Said, Wire, otlp_json

INPUT = "gen_ai.usage.input_tokens"
LIMIT = 2 * 2**20

_numbers = iter(range(1, 2**40))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector as it is by default, shared: each test sends spans of its own."""
    with running(config_for(tmp_path_factory.mktemp("server"))) as started:
        yield started


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector that takes 2 MiB at most."""
    with running(config_for(tmp_path_factory.mktemp("small"), max_body_bytes=LIMIT)) as started:
        yield started


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector whose spool has no room."""
    with running(config_for(tmp_path_factory.mktemp("full"), spool_max_bytes=100)) as started:
        yield started


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector that asks for a key."""
    with running(config_for(tmp_path_factory.mktemp("locked"), default_org=None, max_body_bytes=LIMIT)) as started:
        yield started


on_each_wire = pytest.mark.parametrize("wire", WIRES, ids=[wire.name for wire in WIRES])
over_http = pytest.mark.parametrize("wire", WIRES[1:], ids=[wire.name for wire in WIRES[1:]])


def fresh(attributes: dict[str, Value] | None = None, **facts: Any) -> Emitted:
    """A call that no other test sends."""
    return Emitted(next(_numbers), {**CALL, **(attributes or {})}, **facts)


def request(*spans: Emitted) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(protobuf(*spans))


def first_span(message: ExportTraceServiceRequest) -> Any:
    return message.resource_spans[0].scope_spans[0].spans[0]


def booked(collector: Running, *columns: str) -> dict[bytes, tuple[Any, ...]]:
    """The rows by span id, once everything is booked."""
    collector.wait_until_booked()
    engine = create_engine(collector.collector.engine.url)
    found = {bytes(row[0]): row[1:] for row in rows(engine, "span_id", *columns)}
    engine.dispose()
    return found


def is_alive(collector: Running) -> bool:
    return collector.http.post(calls([next(_numbers)])).status == 200


def post_json(collector: Running, body: Any, **headers: str) -> Answer:
    return collector.http.post(body if isinstance(body, bytes) else json.dumps(body).encode(), JSON, **headers)


def json_of(span: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def is_refused_or_rejected(answer: Answer) -> bool:
    if answer.status == 200:
        return bool(answer.json.get("partialSuccess", {}).get("rejectedSpans") == "1")
    return answer.status == 400


# Calls, success and partial success


def test_point_01_the_unary_export_of_grpc_answers_an_export_response(server: Running) -> None:
    assert Grpc(server).export(request(fresh())) == Said("ok")


@on_each_wire
def test_point_02_full_success_leaves_partial_success_unset(server: Running, wire: type[Wire]) -> None:
    assert wire(server).export(request(fresh(), fresh())).body == wire.plain


@on_each_wire
def test_point_03_an_empty_request_is_a_success(server: Running, wire: type[Wire]) -> None:
    assert wire(server).send(wire.empty).body == wire.plain


@on_each_wire
def test_point_04_empty_envelopes_are_a_success_and_store_nothing(server: Running, wire: type[Wire]) -> None:
    before = booked(server)
    envelope = ExportTraceServiceRequest()
    envelope.resource_spans.add().scope_spans.add()

    assert wire(server).export(envelope).body == wire.plain
    assert booked(server) == before


@pytest.mark.parametrize("compressed", [False, True], ids=["none", "gzip"])
@on_each_wire
def test_point_05_plain_and_gzip_are_read(server: Running, wire: type[Wire], compressed: bool) -> None:
    span = fresh()

    assert wire(server).export(request(span), compressed=compressed).answer == "ok"
    assert span.span_id in booked(server)


@over_http
def test_point_06_deflate_is_read_and_zstd_named_as_unsupported(server: Running, wire: type[HttpProtobuf]) -> None:
    body = wire(server).written(request(fresh()))

    deflated = server.http.post(zlib.compress(body), wire.content_type, content_encoding="deflate")
    zstd = server.http.post(body, wire.content_type, content_encoding="zstd")

    assert (deflated.status, zstd.status) == (200, 415)


@pytest.mark.parametrize("compressed", [False, True], ids=["none", "gzip"])
def test_point_07_grpc_refuses_what_is_too_large_without_a_hint(small: Running, compressed: bool) -> None:
    said = Grpc(small).send(bytes(LIMIT * 10), compressed=compressed)

    assert (said.answer, said.hints) == ("too large", ())
    assert is_alive(small)


def test_point_08_grpc_takes_five_mebibytes(server: Running) -> None:
    assert Grpc(server).export(request(fresh({"prompt": "x" * 5 * 2**20}))).answer == "ok"


@pytest.mark.parametrize("compressed", [False, True], ids=["none", "gzip"])
@over_http
def test_point_09_http_refuses_what_is_too_large(small: Running, wire: type[Wire], compressed: bool) -> None:
    said = wire(small).send(bytes(LIMIT * 10 if compressed else LIMIT + 2**20), compressed=compressed)

    assert (said.answer, said.hints) == ("too large", ())
    assert is_alive(small)


def test_point_10_the_limit_is_a_setting(server: Running) -> None:
    assert CollectorConfig.from_environ({}).max_body_bytes == 64 * 2**20
    assert CollectorConfig.from_environ({"FAREBOX_MAX_BODY_BYTES": "1048576"}).max_body_bytes == 2**20


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_point_11_messages_are_cut(encoding: Any) -> None:
    assert len(receipt_body(Receipt(1, "x" * 10_000_000), encoding)) < 2100
    assert len(status_body(Malformed("x" * 10_000_000), encoding)) < 2100


@on_each_wire
def test_point_12_the_number_of_rejected_spans_is_exact(server: Running, wire: type[Wire]) -> None:
    message = request(*(fresh(end_ns=7, duration_ns=0) for _ in range(3)), *(fresh() for _ in range(4)))

    said = wire(server).export(message)

    assert (said.answer, said.rejected) == ("ok", 3)


@on_each_wire
def test_point_13_the_message_says_why(server: Running, wire: type[Wire]) -> None:
    said = wire(server).export(request(fresh(end_ns=7, duration_ns=0), fresh()))

    assert said.message == "1 spans were rejected (1 clock_skew): the span has neither a start nor an end time"


@on_each_wire
def test_point_14_what_is_accepted_and_has_no_price_says_so_on_its_row(server: Running, wire: type[Wire]) -> None:
    span = fresh({"gen_ai.request.model": "nobody-knows-this"})

    assert wire(server).export(request(span)).body == wire.plain
    assert booked(server, "billing_status", "reason")[span.span_id] == ("unpriced", "unknown_model")


@on_each_wire
def test_point_15_the_valid_spans_of_a_partial_success_are_kept(server: Running, wire: type[Wire]) -> None:
    good, bad = fresh(), fresh(end_ns=7, duration_ns=0)

    assert wire(server).export(request(bad, good)).rejected == 1
    found = booked(server)
    assert good.span_id in found
    assert bad.span_id not in found


# Errors and hints


@on_each_wire
def test_point_16_a_full_spool_is_unavailable_with_a_hint(full: Running, wire: type[Wire]) -> None:
    said = wire(full).export(request(fresh()))

    assert said.answer == "unavailable"
    assert "FAREBOX_SPOOL_MAX_BYTES" in said.message
    assert said.hints


@on_each_wire
def test_point_17_garbage_is_an_invalid_argument_without_a_hint(server: Running, wire: type[Wire]) -> None:
    said = wire(server).send(wire.garbage)

    assert (said.answer, said.hints) == ("invalid", ())
    assert said.message


def test_point_18_the_one_retryable_answer_is_unavailable() -> None:
    retryable = {(one.grpc_code, one.http_status) for one in refusals(Refused) if one.is_retryable}

    assert retryable == {(grpc.StatusCode.UNAVAILABLE.value[0], 503)}
    assert not {one.grpc_code for one in refusals(Refused)} & {2, 13}  # UNKNOWN, INTERNAL


def refusals(kind: type[Refused]) -> list[type[Refused]]:
    below = [one for child in kind.__subclasses__() for one in refusals(child)]
    return below if kind is Refused else [kind, *below]


@on_each_wire
def test_point_19_an_unforeseen_fault_before_the_commit_is_unavailable(
    server: Running, wire: type[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault that nobody foresaw")

    monkeypatch.setattr(server.collector.spool, "append", broken)
    said = wire(server).export(request(fresh()))

    assert said.answer == "unavailable"
    assert said.hints
    assert "ZeroDivisionError" not in said.message


def test_point_20_both_trailers_carry_the_hint(full: Running) -> None:
    trailers = dict(Grpc(full).export(request(fresh())).hints)

    status = Status.FromString(trailers["grpc-status-details-bin"])
    in_details = RetryInfo()
    assert (status.code, status.details[0].Unpack(in_details)) == (14, True)
    assert RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]) == in_details


def test_point_21_the_hint_is_two_seconds_less_a_tenth(full: Running) -> None:
    trailers = dict(Grpc(full).export(request(fresh())).hints)

    delay = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]).retry_delay
    assert (delay.seconds, delay.nanos) == (1, 900_000_000)


def test_point_22_an_unknown_method_is_unimplemented(server: Running) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Import", None, None)(b"", timeout=20)

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_point_23_thirty_two_calls_are_in_flight_at_once(server: Running) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel:
        method = channel.unary_unary(EXPORT, None, None)
        answers = [method.future(protobuf(fresh()), timeout=20) for _ in range(32)]
        assert [answer.result() for answer in answers] == [b""] * 32


def test_point_24_the_ports_are_4317_and_4318() -> None:
    config = CollectorConfig.from_environ({})

    assert (config.grpc_listen.port, config.http_listen.port) == (4317, 4318)


@pytest.mark.parametrize("signal", ["logs", "metrics"])
@on_each_wire
def test_point_25_logs_and_metrics_are_accepted(server: Running, wire: type[Wire], signal: str) -> None:
    assert wire(server).send(wire.empty, signal=signal).body == wire.plain


# HTTP


@over_http
def test_point_28_traces_are_posted_to_v1_traces(server: Running, wire: type[HttpProtobuf]) -> None:
    body = wire(server).written(request(fresh()))

    assert server.http.post(body, wire.content_type, "/v1/traces").status == 200


@over_http
def test_point_29_a_trailing_slash_is_served_and_not_redirected(server: Running, wire: type[HttpProtobuf]) -> None:
    span = fresh()

    assert server.http.post(wire(server).written(request(span)), wire.content_type, "/v1/traces/").status == 200
    assert span.span_id in booked(server)


@over_http
def test_point_30_the_answer_has_the_encoding_of_the_question(server: Running, wire: type[HttpProtobuf]) -> None:
    for body in (wire(server).written(request(fresh())), wire.garbage):
        answer = server.http.post(body, wire.content_type)
        assert answer.headers["content-type"] == wire.content_type


def test_point_31_both_encodings_are_served_on_one_port(server: Running) -> None:
    protobuf_answer = server.http.post(protobuf(fresh()), PROTOBUF)
    json_answer = post_json(server, otlp_json(request(fresh())))

    assert (protobuf_answer.body, json_answer.body) == (b"", b"{}")


def test_point_32_grpc_and_http_have_a_port_each(server: Running) -> None:
    assert server.collector.grpc_port != server.collector.http_port


@pytest.mark.parametrize(
    ("content_type", "wire"),
    [("Application/X-Protobuf", HttpProtobuf), ("application/json; charset=UTF-8", HttpJson)],
    ids=["case", "parameter"],
)
def test_point_33_parameters_and_case_of_the_media_type_are_ignored(
    server: Running, content_type: str, wire: type[Wire]
) -> None:
    assert server.http.post(wire(server).written(request(fresh())), content_type).status == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", ""])
def test_point_34_another_media_type_is_unsupported(server: Running, content_type: str) -> None:
    assert server.http.post(protobuf(fresh()), content_type).status == 415


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_point_35_another_method_is_not_allowed(server: Running, method: str) -> None:
    assert server.http.request(method, "/v1/traces", None, {}).status == 405


@over_http
def test_point_36_permanently_bad_data_is_a_400(server: Running, wire: type[HttpProtobuf]) -> None:
    assert server.http.post(wire.garbage, wire.content_type).status == 400


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/nothing"])
@over_http
def test_point_37_every_error_is_a_status(locked: Running, wire: type[HttpProtobuf], path: str) -> None:
    answer = locked.http.post(wire.garbage, wire.content_type, path)

    assert answer.status in (401, 404)
    said = Status.FromString(answer.body).message if answer.headers["content-type"] == PROTOBUF else answer.json
    assert said


@over_http
def test_point_38_a_400_stands_without_details(server: Running, wire: type[HttpProtobuf]) -> None:
    answer = server.http.post(wire.garbage, wire.content_type)

    details = answer.json.get("details", []) if wire is HttpJson else list(Status.FromString(answer.body).details)
    assert details == []


@over_http
def test_point_39_no_other_status_asks_for_another_try(full: Running, wire: type[HttpProtobuf]) -> None:
    statuses = {one.http_status for one in refusals(Refused)}

    assert statuses & {429, 502, 503, 504} == {503}
    assert full.http.post(wire(full).written(request(fresh())), wire.content_type).status == 503


@over_http
def test_point_40_overload_says_retry_after_two_seconds(full: Running, wire: type[Wire]) -> None:
    assert wire(full).export(request(fresh())).hints == (("retry-after", b"2"),)


@pytest.mark.parametrize("cut", [None, -9, 12], ids=["no gzip", "truncated", "head alone"])
@over_http
def test_point_41_what_is_no_gzip_is_a_400(server: Running, wire: type[HttpProtobuf], cut: int | None) -> None:
    body = wire(server).written(request(fresh()))
    sent = body if cut is None else gzip.compress(body)[:cut]

    assert server.http.post(sent, wire.content_type, content_encoding="gzip").status == 400


@over_http
def test_point_42_an_unknown_compression_is_named(server: Running, wire: type[HttpProtobuf]) -> None:
    answer = server.http.post(wire(server).written(request(fresh())), wire.content_type, content_encoding="rot13")

    assert answer.status == 415


@over_http
def test_point_43_an_answer_is_never_compressed(server: Running, wire: type[HttpProtobuf]) -> None:
    body = wire(server).written(request(fresh(end_ns=7, duration_ns=0), fresh()))

    answer = server.http.post(body, wire.content_type, accept_encoding="gzip")

    assert "content-encoding" not in answer.headers
    assert wire(server).success(answer.body).rejected == 1


@over_http
def test_point_46_a_chunked_body_is_read(server: Running, wire: type[HttpProtobuf]) -> None:
    span = fresh()
    body = wire(server).written(request(span))

    assert server.http.post(iter([body[:7], body[7:]]), wire.content_type).status == 200
    assert span.span_id in booked(server)


# JSON


def test_point_47_ids_are_hex_in_any_case(server: Running) -> None:
    span = json_span(fresh()) | {"traceId": "AbCd" * 8, "spanId": "eF" * 8}

    assert post_json(server, json_of(span)).json == {}
    assert bytes.fromhex("ef" * 8) in booked(server)


def test_point_48_base64_is_no_id(server: Running) -> None:
    span = json_span(fresh()) | {"traceId": "q83vASNFZ4mrze8BI0VniQ==", "spanId": "q83vASNFZ4k="}

    assert is_refused_or_rejected(post_json(server, json_of(span)))


@pytest.mark.parametrize("trace_id", ["abc", "ab" * 15, "ab" * 17, "zz" * 16])
def test_point_49_short_and_odd_hex_is_no_id(server: Running, trace_id: str) -> None:
    assert is_refused_or_rejected(post_json(server, json_of(json_span(fresh()) | {"traceId": trace_id})))


def test_point_50_enums_are_integers_and_names_are_no_fault(server: Running) -> None:
    numbers = json_span(fresh(status=2)) | {"kind": 3}
    names = json_span(fresh()) | {"kind": "SPAN_KIND_CLIENT", "status": {"code": "STATUS_CODE_ERROR"}}

    assert [post_json(server, json_of(span)).status for span in (numbers, names)] == [200, 200]
    found = booked(server, "status")
    assert [found[bytes.fromhex(span["spanId"])] for span in (numbers, names)] == [("error",), ("error",)]


def test_point_51_unknown_fields_are_ignored_at_every_level(server: Running) -> None:
    new: dict[str, Any] = {"new": {"deep": [1, "two", None]}}
    span = json_span(fresh())
    span["attributes"] = [{**item, **new, "value": {**item["value"], **new}} for item in span["attributes"]]
    span["status"] |= new
    scope = {"scope": {"name": "x", **new}, "spans": [span | new], **new}
    body = {"resourceSpans": [{"resource": {"attributes": [], **new}, "scopeSpans": [scope], **new}], **new}

    assert post_json(server, body).json == {}
    assert booked(server, "input_tokens")[bytes.fromhex(span["spanId"])] == (1000,)


def test_point_52_snake_case_is_an_unknown_field(server: Running) -> None:
    span = fresh()

    answer = post_json(server, {"resource_spans": [{"scope_spans": [{"spans": [json_span(span)]}]}]})

    assert (answer.status, answer.json) == (200, {})
    assert span.span_id not in booked(server)


def test_point_53_integers_of_64_bits_are_texts_and_numbers(server: Running) -> None:
    texts, numbers = json_span(fresh()), json_span(fresh())
    numbers["endTimeUnixNano"] = int(numbers["endTimeUnixNano"])
    for item in numbers["attributes"]:
        if "intValue" in item["value"]:
            item["value"]["intValue"] = int(item["value"]["intValue"])

    assert [post_json(server, json_of(span)).json for span in (texts, numbers)] == [{}, {}]
    found = booked(server, "input_tokens", "output_tokens")
    assert [found[bytes.fromhex(span["spanId"])] for span in (texts, numbers)] == [(1000, 100)] * 2


def test_point_54_null_is_absent(server: Running) -> None:
    span = json_span(fresh()) | {"parentSpanId": None, "status": None, "kind": None, "startTimeUnixNano": None}

    assert post_json(server, json_of(span)).json == {}
    assert bytes.fromhex(span["spanId"]) in booked(server)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_point_55_numbers_that_are_none_are_no_fault_of_ours(server: Running, number: str) -> None:
    span = json_span(fresh())
    span["attributes"] += [{"key": "gen_ai.response.time_to_first_chunk", "value": {"doubleValue": number}}]

    assert post_json(server, json_of(span)).status == 200
    assert bytes.fromhex(span["spanId"]) in booked(server)


def test_point_56_an_integer_in_words_is_refused(server: Running) -> None:
    span = json_span(fresh()) | {"attributes": [{"key": INPUT, "value": {"intValue": "many"}}]}

    assert is_refused_or_rejected(post_json(server, json_of(span)))


@pytest.mark.parametrize(
    "body", [b"[]", b"3", b'"text"', b'{"resourceSpans":{}}', b'{"resourceSpans":[3]}', b'{"resourceSpans":"no"}']
)
def test_point_57_another_shape_is_a_400(server: Running, body: bytes) -> None:
    assert post_json(server, body).status == 400


# What spans hold


@pytest.mark.parametrize("wire", WIRES[:2], ids=[wire.name for wire in WIRES[:2]])
def test_point_58_unknown_protobuf_fields_are_ignored(server: Running, wire: type[Wire]) -> None:
    span = fresh()
    unknown = b"\xfa\x7f\x03abc"  # field 2047, three bytes
    message = request(span)
    first_span(message).MergeFromString(unknown)
    message.resource_spans[0].MergeFromString(unknown)
    message.MergeFromString(unknown)

    assert wire(server).export(message) == Said("ok")
    assert span.span_id in booked(server)


@on_each_wire
def test_point_59_what_comes_again_gets_the_same_answer_and_no_second_row(server: Running, wire: type[Wire]) -> None:
    message = request(fresh(), fresh())

    answers = {wire(server).export(message).body for _ in range(3)}
    first = len(booked(server))
    wire(server).export(message)

    assert answers == {wire.plain}
    assert len(booked(server)) == first


@pytest.mark.parametrize("size", [0, 1, 15, 17])
@on_each_wire
def test_point_60_a_span_without_a_valid_id_is_rejected_and_counted(
    server: Running, wire: type[Wire], size: int
) -> None:
    short = request(fresh(), fresh())
    first_span(short).trace_id = b"\x01" * size
    zero = request(fresh(), fresh())
    first_span(zero).span_id = bytes(8)
    before = server.counters().get("quarantined", 0)

    assert [wire(server).export(message).rejected for message in (short, zero)] == [1, 1]
    server.wait_until_booked()
    assert server.counters()["quarantined"] == before + 2


@on_each_wire
def test_point_61_one_bad_span_does_not_sink_its_request(server: Running, wire: type[Wire]) -> None:
    spans = [fresh() for _ in range(5)]
    message = request(*spans)
    message.resource_spans[0].scope_spans[2].spans[0].span_id = b"\x01"

    assert wire(server).export(message).rejected == 1
    found = booked(server)
    assert [span.span_id in found for span in spans] == [True, True, False, True, True]


@on_each_wire
def test_point_62_a_body_of_logs_is_never_a_plain_success(server: Running, wire: type[Wire]) -> None:
    logs = ExportLogsServiceRequest()
    record = logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=time.time_ns())
    record.body.string_value = "a line of a log"
    body = logs.SerializeToString()
    if wire is HttpJson:
        body = json.dumps(
            {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}]}]}]}
        ).encode()

    said = wire(server).send(body)

    assert said.answer == "invalid" or said.rejected == 1


@on_each_wire
def test_point_63_deep_nesting_is_refused_and_the_server_lives(server: Running, wire: type[Wire]) -> None:
    if wire is HttpJson:
        body = b'{"resourceSpans":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    else:
        body = deeply_nested(2000)

    assert wire(server).send(body).answer == "invalid"
    assert is_alive(server)


def deeply_nested(depth: int) -> bytes:
    """A span whose count of tokens is a list in a list in a list."""
    value = b"\x18\x01"  # int_value 1
    for _ in range(depth):
        value = in_field(5, in_field(1, value))  # AnyValue.array_value.values
    attribute = in_field(9, in_field(1, INPUT.encode()) + in_field(2, value))
    span = in_field(1, b"\x01" * 16) + in_field(2, b"\x02" * 8) + attribute
    return in_field(1, in_field(2, in_field(2, span)))


def in_field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


@on_each_wire
def test_point_64_many_double_and_empty_keys_take_bounded_time(server: Running, wire: type[Wire]) -> None:
    span = fresh()
    message = request(span)
    attributes = first_span(message).attributes
    for number in range(50_000):
        attributes.add(key=f"k{number}").value.int_value = number
    for key in ("", "", INPUT, INPUT):
        attributes.add(key=key).value.int_value = 1000

    started = time.monotonic()
    said = wire(server).export(message)

    assert (said.answer, said.rejected) == ("ok", 0)
    assert time.monotonic() - started < 5
    assert booked(server, "input_tokens")[span.span_id] == (1000,)


@on_each_wire
def test_point_65_nul_and_markup_are_stored_as_text(server: Running, wire: type[Wire]) -> None:
    span = fresh({"user.id": "a\0b<script>&'\"; DROP TABLE x"})

    assert wire(server).export(request(span)).answer == "ok"
    assert booked(server, "user_ref")[span.span_id] == ("ab<script>&'\"; DROP TABLE x",)


@pytest.mark.parametrize("wire", WIRES[:2], ids=[wire.name for wire in WIRES[:2]])
def test_point_65_invalid_utf_8_costs_nothing(server: Running, wire: type[Wire]) -> None:
    span = fresh({"user.id": "MARK", "session.id": "kept"})
    body = wire(server).written(request(span)).replace(b"MARK", b"\xff\xfe\x00\xc3")

    assert wire(server).send(body).answer == "ok"
    assert booked(server, "session")[span.span_id] == ("kept",)


@pytest.mark.parametrize(
    "value",
    [
        AnyValue(int_value=-1),
        AnyValue(int_value=2**63 - 1),
        AnyValue(double_value=float("nan")),
        AnyValue(double_value=float("inf")),
        AnyValue(string_value="many"),
        AnyValue(bool_value=True),
    ],
    ids=["negative", "huge", "nan", "infinite", "text", "bool"],
)
@on_each_wire
def test_point_66_a_count_that_is_none_is_named_and_never_billed(
    server: Running, wire: type[Wire], value: AnyValue
) -> None:
    span = fresh()
    message = request(span)
    for item in first_span(message).attributes:
        if item.key == INPUT:
            item.value.CopyFrom(value)

    assert wire(server).export(message) == Said("ok", body=wire.plain)
    found = booked(server, "billing_status", "reason", "input_tokens")[span.span_id]
    assert found == ("partial", "invalid_usage", 0)


@pytest.mark.parametrize(
    ("end_ns", "duration_ns", "rejected"),
    [(0, 0, 1), (2**64 - 1, 0, 1), (None, -(10**9), 0)],
    ids=["zero", "the largest", "an end before the start"],
)
@on_each_wire
def test_point_67_impossible_times_are_rejected_alone_and_odd_ones_read(
    server: Running, wire: type[Wire], end_ns: int | None, duration_ns: int, rejected: int
) -> None:
    span = fresh(end_ns=time.time_ns() if end_ns is None else end_ns, duration_ns=duration_ns)

    said = wire(server).export(request(span, fresh()))

    assert (said.answer, said.rejected) == ("ok", rejected)
    found = booked(server, "started_at_us")
    assert found.get(span.span_id) == (None if rejected else (None,))


# Keys and the end


@pytest.mark.parametrize("key", [None, "fbx_wrong"], ids=["no key", "wrong key"])
@on_each_wire
def test_point_70_without_a_valid_key_nobody_gets_in(locked: Running, wire: type[Wire], key: str | None) -> None:
    said = wire(locked).export(request(fresh()), key=key)

    assert (said.answer, said.hints) == ("unauthenticated", ())
    assert said.message


@pytest.mark.parametrize("body", ["garbage", "bomb"])
@on_each_wire
def test_point_71_the_key_is_looked_at_before_the_body(locked: Running, wire: type[Wire], body: str) -> None:
    said = wire(locked).send(wire.garbage if body == "garbage" else bytes(LIMIT // 2), compressed=body == "bomb")

    assert said.answer == "unauthenticated"


def test_point_72_what_is_acknowledged_during_a_drain_is_booked(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("drained")
    acknowledged: list[int] = []
    started = Running(config_for(folder, drain_notice_s=0.5))
    is_over = threading.Event()

    def send() -> None:
        while not is_over.is_set():
            span = fresh()
            try:
                if Grpc(started).export(request(span)).answer == "ok":
                    acknowledged.append(span.number)
            except OSError:
                return

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    time.sleep(0.3)
    started.stop()
    is_over.set()
    for sender in senders:
        sender.join(20)

    with running(config_for(folder)) as again:
        found = booked(again)
    assert len(acknowledged) > 4
    assert all(number.to_bytes(8, "big") in found for number in acknowledged)
