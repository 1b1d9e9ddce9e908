from __future__ import annotations

import json
import time
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from farebox_collector import dialects
from farebox_collector.decode import (
    Decoded,
    Selection,
    count_json_items,
    count_protobuf_items,
    decode_json,
    decode_protobuf,
)
from farebox_collector.errors import Malformed
from tests.collector.emitting import CALL, Emitted, Value, json_request, json_span, protobuf

NOW_NS = 1_763_690_000_000_000_000
NOW_US = NOW_NS // 1000
SELECTION = Selection(dialects.MARKS, dialects.KEYS)


def read_protobuf(*spans: Emitted, resource: dict[str, Any] | None = None) -> Decoded:
    return decode_protobuf(protobuf(*spans, resource=resource), SELECTION, NOW_US)


def read_json(*spans: Emitted) -> Decoded:
    return decode_json(json_request(*spans), SELECTION, NOW_US)


def read_json_span(**changes: Any) -> Decoded:
    span = {**json_span(Emitted(end_ns=NOW_NS)), **changes}
    return decode_json(in_request(span), SELECTION, NOW_US)


def in_request(*spans: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}).encode()


def test_both_encodings_give_the_same_plain_spans() -> None:
    emitted = [
        Emitted(1, {**CALL, "farebox.tags": ["a", "b"], "gen_ai.request.stream": True}, end_ns=NOW_NS),
        Emitted(2, {**CALL, "gen_ai.response.time_to_first_chunk": 0.25}, parent=1, trace=1, end_ns=NOW_NS),
        Emitted(3, {"http.method": "GET"}, end_ns=NOW_NS),
    ]

    from_protobuf, from_json = read_protobuf(*emitted), read_json(*emitted)

    assert from_protobuf == from_json
    assert from_protobuf.others == 1
    first, second = from_protobuf.spans
    assert first.attributes["farebox.tags"] == ["a", "b"]
    assert first.attributes["gen_ai.request.stream"] is True
    assert first.attributes["gen_ai.usage.input_tokens"] == 1000
    assert second.attributes["gen_ai.response.time_to_first_chunk"] == 0.25
    assert second.parent_span_id == (1).to_bytes(8, "big")
    assert (first.start_us, first.end_us) == (NOW_US - 1_000_000, NOW_US)


def test_only_the_allow_list_is_kept() -> None:
    prompts = {"gen_ai.input.messages": "secret", "gen_ai.prompt": "secret", "gen_ai.tool.call.arguments": "secret"}

    decoded = read_protobuf(Emitted(1, {**CALL, **prompts}, name="secret", end_ns=NOW_NS))

    assert set(decoded.spans[0].attributes) == set(CALL)
    assert b"secret" not in repr(decoded).encode()


ANTHROPIC = "openinference.instrumentation.anthropic"
RESPONSE = {"id": "msg_00000618ea03", "model": "claude-sonnet-4-5", "type": "message", "content": [{"text": "secret"}]}


@pytest.mark.parametrize("is_protobuf", [True, False], ids=["protobuf", "json"])
def test_a_response_s_id_is_taken_out_of_it_and_nothing_else_is_kept(is_protobuf: bool) -> None:
    kept = {"openinference.span.kind": "LLM"}
    selection = Selection(dialects.MARKS, dialects.KEYS, extracts=dialects.EXTRACTS)

    def read(output: Value, scope: str = ANTHROPIC) -> dict[str, Any]:
        emitted = Emitted(1, {**kept, "output.value": output}, scope=scope, end_ns=NOW_NS)
        decode = decode_protobuf if is_protobuf else decode_json
        decoded = decode((protobuf if is_protobuf else json_request)(emitted), selection, NOW_US)
        assert b"secret" not in repr(decoded).encode()
        return decoded.spans[0].attributes

    assert read(json.dumps(RESPONSE)) == {**kept, "openinference.response.id": "msg_00000618ea03"}
    assert read(json.dumps(RESPONSE), "openinference.instrumentation.langchain") == kept
    for no_response in ("secret", '{"id": "secret"}', "[" * 100_000, 7, ""):
        assert read(no_response) == kept
    assert read(json.dumps(RESPONSE | {"more": "secret" * 1_000_000})) == kept


def test_a_count_of_zero_is_not_an_absent_one() -> None:
    zero = Emitted(1, {**CALL, "gen_ai.usage.cache_read.input_tokens": 0}, end_ns=NOW_NS)

    assert read_protobuf(zero).spans[0].attributes["gen_ai.usage.cache_read.input_tokens"] == 0
    assert read_json(zero).spans[0].attributes["gen_ai.usage.cache_read.input_tokens"] == 0
    assert "gen_ai.usage.cache_read.input_tokens" not in read_protobuf(Emitted(end_ns=NOW_NS)).spans[0].attributes


def test_a_value_without_content_says_nothing() -> None:
    request = ExportTraceServiceRequest.FromString(protobuf(Emitted(end_ns=NOW_NS)))
    attributes = request.resource_spans[0].scope_spans[0].spans[0].attributes
    attributes.add(key="gen_ai.usage.cache_read.input_tokens")

    decoded = decode_protobuf(request.SerializeToString(), SELECTION, NOW_US)

    assert "gen_ai.usage.cache_read.input_tokens" not in decoded.spans[0].attributes


def test_attributes_of_the_resource_stand_behind_those_of_the_span() -> None:
    decoded = read_protobuf(
        Emitted(1, {**CALL, "farebox.project": "mine"}, end_ns=NOW_NS),
        resource={"service.name": "shop", "farebox.project": "everybody's", "host.name": "secret"},
    )

    assert decoded.spans[0].attributes["farebox.project"] == "mine"
    assert decoded.spans[0].attributes["service.name"] == "shop"
    assert "host.name" not in decoded.spans[0].attributes


@pytest.mark.parametrize("size", [0, 8, 15, 17])
def test_a_trace_id_of_another_size_rejects_its_span_alone(size: int) -> None:
    request = ExportTraceServiceRequest.FromString(protobuf(Emitted(1, end_ns=NOW_NS), Emitted(2, end_ns=NOW_NS)))
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b"x" * size

    decoded = decode_protobuf(request.SerializeToString(), SELECTION, NOW_US)

    assert [rejected.reason for rejected in decoded.rejected] == ["bad_trace_id"]
    assert len(decoded.spans) == 1


def test_ids_of_zeros_are_no_ids() -> None:
    request = ExportTraceServiceRequest.FromString(protobuf(Emitted(1, end_ns=NOW_NS), Emitted(2, end_ns=NOW_NS)))
    spans = [scope.spans[0] for scope in request.resource_spans[0].scope_spans]
    spans[0].trace_id, spans[1].span_id = bytes(16), bytes(8)

    decoded = decode_protobuf(request.SerializeToString(), SELECTION, NOW_US)

    assert [rejected.reason for rejected in decoded.rejected] == ["bad_trace_id", "bad_span_id"]


def test_a_span_of_others_with_bad_ids_is_rejected_too() -> None:
    request = ExportTraceServiceRequest.FromString(protobuf(Emitted(1, {"http.method": "GET"}, end_ns=NOW_NS)))
    request.resource_spans[0].scope_spans[0].spans[0].span_id = b"short"

    decoded = decode_protobuf(request.SerializeToString(), SELECTION, NOW_US)

    assert (decoded.others, [rejected.reason for rejected in decoded.rejected]) == (0, ["bad_span_id"])


def test_a_logs_body_on_the_trace_path_is_never_plain_success() -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=NOW_NS)
    record.body.string_value = "gen_ai. in a log"
    body = request.SerializeToString()

    try:
        decoded = decode_protobuf(body, SELECTION, NOW_US)
    except Malformed:
        return
    assert len(decoded.rejected) == 1


def test_a_logs_body_in_json_on_the_trace_path_is_refused() -> None:
    with pytest.raises(Malformed, match="/v1/logs"):
        decode_json(b'{"resourceLogs": [{"scopeLogs": []}]}', SELECTION, NOW_US)


@pytest.mark.parametrize(
    ("end_ns", "duration_ns", "detail"),
    [
        (0, 0, "neither a start nor an end"),
        (1_577_836_799_999_999_000, 0, "before 2020"),
        (NOW_NS + 24 * 3600 * 10**9 + 10**9, 0, "seconds in the future"),
        (2**64 - 1, 0, "seconds in the future"),
    ],
)
def test_an_impossible_time_goes_to_the_quarantine(end_ns: int, duration_ns: int, detail: str) -> None:
    for decoded in (
        read_protobuf(Emitted(end_ns=end_ns, duration_ns=duration_ns)),
        read_json(Emitted(end_ns=end_ns, duration_ns=duration_ns)),
    ):
        assert [rejected.reason for rejected in decoded.rejected] == ["clock_skew"]
        assert detail in decoded.rejected[0].detail
        assert decoded.rejected[0].span is not None


def test_an_absent_end_is_the_start() -> None:
    request = ExportTraceServiceRequest.FromString(protobuf(Emitted(end_ns=NOW_NS)))
    request.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano = 0

    span = decode_protobuf(request.SerializeToString(), SELECTION, NOW_US).spans[0]

    assert (span.start_us, span.end_us) == (NOW_US - 1_000_000, NOW_US - 1_000_000)


def test_a_start_behind_the_end_is_not_known() -> None:
    span = read_protobuf(Emitted(end_ns=NOW_NS, duration_ns=-(10**9))).spans[0]

    assert (span.start_us, span.end_us) == (None, NOW_US)


def test_garbage_is_malformed() -> None:
    for decode, body in ((decode_protobuf, b"\xff\xfe garbage"), (decode_json, b"{"), (decode_json, b"[]")):
        with pytest.raises(Malformed):
            decode(body, SELECTION, NOW_US)


def test_an_empty_request_is_empty() -> None:
    for body in (b"", ExportTraceServiceRequest().SerializeToString()):
        assert decode_protobuf(body, SELECTION, NOW_US).total == 0
    for text in (b"{}", b'{"resourceSpans": null}', b'{"resourceSpans": [{"scopeSpans": [{}]}]}'):
        assert decode_json(text, SELECTION, NOW_US).total == 0


def test_a_broken_span_does_not_sink_its_request() -> None:
    good = protobuf(Emitted(1, end_ns=NOW_NS))
    request = ExportTraceServiceRequest.FromString(good)
    raw = request.resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    broken = raw[:-3]
    scope = b"\x12" + varint(len(raw)) + raw + b"\x12" + varint(len(broken)) + broken
    resource = b"\x12" + varint(len(scope)) + scope
    body = b"\x0a" + varint(len(resource)) + resource

    decoded = decode_protobuf(body, SELECTION, NOW_US)

    assert (len(decoded.spans), [rejected.reason for rejected in decoded.rejected]) == (1, ["malformed_span"])


def varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def nested(key: bytes) -> bytes:
    """A request with one span whose attribute is 2,000 lists deep; the span has no times."""
    raw = AnyValue(string_value="bottom").SerializeToString()
    for _ in range(2000):
        array = b"\x0a" + varint(len(raw)) + raw
        raw = b"\x2a" + varint(len(array)) + array
    pair = b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(raw)) + raw
    span = b"\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8 + b"\x4a" + varint(len(pair)) + pair
    for field in (b"\x12", b"\x12", b"\x0a"):
        span = field + varint(len(span)) + span
    return span


def test_deep_nesting_is_refused_where_it_would_be_read() -> None:
    with pytest.raises(Malformed):
        decode_protobuf(nested(b"gen_ai.request.model"), SELECTION, NOW_US)
    unread = decode_protobuf(nested(b"gen_ai.any"), SELECTION, NOW_US)
    assert [rejected.reason for rejected in unread.rejected] == ["clock_skew"]
    for depth in (2_000, 100_000):
        deep = b'{"arrayValue":{"values":[' * depth + b"]}}" * depth
        with pytest.raises(Malformed):
            decode_json(in_request("@").replace(b'"@"', b'{"attributes":[{"value":' + deep + b"}]}"), SELECTION, NOW_US)


COUNTS = (0, 1, 127, 128, 300, 16_383, 16_384, 2**31, 2**40, 2**63 - 1, -1, -(2**63))
TEXTS = ("x", "é" * 20, "x" * 32, "x" * 33, "x" * 125, "x" * 126, "x" * 127, "x" * 128, "x" * 4096)


@pytest.mark.parametrize("value", [*COUNTS, *TEXTS, 0.0, 0.7, -2.0, True, False, ["a", "b"]], ids=str)
def test_every_value_is_read_as_it_was_written(value: Value) -> None:
    body = protobuf(Emitted(1, {**CALL, "farebox.project": value}, end_ns=NOW_NS))

    for _ in range(2):  # the second time from what is remembered
        read = decode_protobuf(body, SELECTION, NOW_US).spans[0].attributes["farebox.project"]
        assert (read, type(read)) == (value, type(value))


def test_a_value_whose_bytes_are_odd_is_read_as_protobuf_means_it() -> None:
    raw = b"\x0a\x01a\x0a\x01b"  # a text twice: the last one counts
    padded = b"\x18\x81\x80\x00"  # 1, written longer than it has to be
    for odd, meant in ((raw, "b"), (padded, 1), (b"\x0a\x81\x00a", "a")):
        marker = b"\x0a" + bytes([len(odd) - 2]) + b"X" * (len(odd) - 2)
        body = protobuf(Emitted(1, {**CALL, "farebox.project": "X" * (len(odd) - 2)}, end_ns=NOW_NS))
        assert marker in body
        span = decode_protobuf(body.replace(marker, odd), SELECTION, NOW_US).spans[0]
        assert span.attributes["farebox.project"] == meant


def test_broken_utf_8_in_a_value_costs_nothing() -> None:
    body = protobuf(Emitted(1, {**CALL, "farebox.project": "XXXX"}, end_ns=NOW_NS)).replace(b"XXXX", b"a\xff\x00b")

    span = decode_protobuf(body, SELECTION, NOW_US).spans[0]

    assert span.attributes["farebox.project"] == "a�b"


def test_many_and_odd_attributes_take_bounded_time() -> None:
    many = {f"key.{number}": "x" for number in range(50_000)}
    body = protobuf(Emitted(1, {**many, **CALL, "": "empty"}, end_ns=NOW_NS))

    started = time.process_time()
    decoded = decode_protobuf(body, SELECTION, NOW_US)

    assert len(decoded.spans) == 1
    assert time.process_time() - started < 2


def test_json_ids_are_hex_in_any_case() -> None:
    decoded = read_json_span(traceId="5B8EFFF798038103D269B633813FC60C", spanId="eee19b7ec3c1b174")

    assert decoded.spans[0].trace_id.hex() == "5b8efff798038103d269b633813fc60c"


@pytest.mark.parametrize("trace_id", ["W47/95gDgQPSabYzgT/GDA==", "5b8", "5b8efff798038103d269b633813fc60", "zz" * 16])
def test_json_ids_that_are_no_hex_are_rejected(trace_id: str) -> None:
    assert [rejected.reason for rejected in read_json_span(traceId=trace_id).rejected] == ["bad_trace_id"]


def test_json_reads_64_bit_integers_as_text_and_as_numbers() -> None:
    for value in ("12345678901", 12345678901):
        decoded = read_json_span(
            attributes=[
                {"key": "gen_ai.system", "value": {"stringValue": "openai"}},
                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": value}},
            ]
        )
        assert decoded.spans[0].attributes["gen_ai.usage.input_tokens"] == 12345678901


def test_json_ignores_unknown_fields_and_snake_case_and_takes_null_for_absent() -> None:
    decoded = read_json_span(
        unknown={"a": [1]}, events=None, droppedAttributesCount=None, trace_id="00", parentSpanId=None
    )

    assert len(decoded.spans) == 1
    assert decoded.spans[0].parent_span_id is None


def test_json_enum_names_and_special_numbers_are_no_fault() -> None:
    decoded = read_json_span(
        kind="SPAN_KIND_CLIENT",
        status={"code": "STATUS_CODE_ERROR", "message": "boom"},
        attributes=[
            {"key": "gen_ai.response.time_to_first_chunk", "value": {"doubleValue": "NaN"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": 10**30}},
            {"key": "gen_ai.usage.output_tokens", "value": {"doubleValue": "Infinity"}},
        ],
    )

    span = decoded.spans[0]
    assert (span.kind, span.is_error, span.status_message) == (3, True, "boom")


@pytest.mark.parametrize(
    "changes",
    [
        {"attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "many"}}]},
        {"attributes": "gen_ai."},
        {"startTimeUnixNano": "-1"},
        {"endTimeUnixNano": "1e999"},
        {"traceId": 7},
        {"kind": {"a": 1}},
    ],
)
def test_a_json_span_of_a_wrong_shape_is_rejected_without_quoting_it(changes: dict[str, Any]) -> None:
    good, bad = json_span(Emitted(1, end_ns=NOW_NS)), {**json_span(Emitted(2, end_ns=NOW_NS)), **changes}

    decoded = decode_json(in_request(good, bad), SELECTION, NOW_US)

    assert (len(decoded.spans), [rejected.reason for rejected in decoded.rejected]) == (1, ["malformed_span"])
    assert "many" not in decoded.rejected[0].detail


@pytest.mark.parametrize(
    "body", [b"null", b'"text"', b'{"resourceSpans": 5}', b'{"resourceSpans": [[]]}', in_request(5)]
)
def test_json_of_a_wrong_shape_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode_json(body, SELECTION, NOW_US)


def test_an_escaped_mark_is_found_in_json() -> None:
    body = json_request(Emitted(end_ns=NOW_NS)).replace(b"gen_ai.", b"gen\\u005fai.")

    assert len(decode_json(body, SELECTION, NOW_US).spans) == 1


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb"cut \ud83d", "cut \ufffd"),
        (rb"\uDE00 end", "\ufffd end"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"a path: C:\\ud800", r"a path: C:\ud800"),
        (rb"\\\ud800", "\\\ufffd"),
    ],
)
def test_half_of_an_emoji_in_json_costs_itself_alone(written: bytes, read: str) -> None:
    body = in_request(
        json_span(Emitted(1, {**CALL, "farebox.project": "XX"}, end_ns=NOW_NS)),
        json_span(Emitted(2, {**CALL, "prompt": "cut here"}, end_ns=NOW_NS)),
    )

    decoded = decode_json(body.replace(b"XX", written).replace(b"here", rb"\ud83d"), SELECTION, NOW_US)

    assert [span.attributes.get("farebox.project") for span in decoded.spans] == [read, None]


def test_a_byte_order_mark_in_front_of_json_is_passed_over() -> None:
    assert len(decode_json(b"\xef\xbb\xbf" + json_request(Emitted(end_ns=NOW_NS)), SELECTION, NOW_US).spans) == 1


@pytest.mark.parametrize("value", [1000, 1000.0, "1000", "1000.0", "1e3", "1E+3"])
def test_a_whole_number_in_json_may_be_written_as_protobuf_allows(value: object) -> None:
    decoded = read_json_span(attributes=[{"key": "gen_ai.usage.input_tokens", "value": {"intValue": value}}])

    assert decoded.spans[0].attributes == {"gen_ai.usage.input_tokens": 1000}


@pytest.mark.parametrize("value", [12.7, "12.7", "1_000", " 12 ", "\u0663", "0x10", "9" * 6000, "NaN", ""])
def test_what_is_no_whole_number_in_json_is_rejected_and_not_cut_to_one(value: object) -> None:
    bad = {**json_span(Emitted(1, end_ns=NOW_NS)), "attributes": [whole_of(value)]}

    decoded = decode_json(in_request(bad, json_span(Emitted(2, end_ns=NOW_NS))), SELECTION, NOW_US)

    assert [rejected.detail for rejected in decoded.rejected] == ["an intValue has to be a whole number"]
    assert len(decoded.spans) == 1


def whole_of(value: object) -> dict[str, Any]:
    return {"key": "gen_ai.usage.input_tokens", "value": {"intValue": value}}


@pytest.mark.parametrize("value", ["2026-11-21T10:00:00Z", "-1", "1e999", 2**64])
def test_a_time_in_json_that_is_none_is_named(value: object) -> None:
    bad = {**json_span(Emitted(1, end_ns=NOW_NS)), "endTimeUnixNano": value}

    decoded = decode_json(in_request(bad, json_span(Emitted(2, end_ns=NOW_NS))), SELECTION, NOW_US)

    assert [rejected.detail for rejected in decoded.rejected] == [
        "a time has to be a whole number of nanoseconds since 1970, of 64 bits"
    ]


SPANS = in_request(json_span(Emitted(end_ns=NOW_NS)))


@pytest.mark.parametrize(
    ("body", "member"),
    [
        (SPANS[:-1] + b', "resourceSpans": []}', "resourceSpans"),
        (SPANS[:-3] + b', "scopeSpans": []}]}', "scopeSpans"),
        (SPANS[:-5] + b', "spans": []}]}]}', "spans"),
    ],
    ids=["resourceSpans", "scopeSpans", "spans"],
)
def test_json_that_names_its_spans_twice_is_refused_and_not_half_read(body: bytes, member: str) -> None:
    json.loads(body)

    with pytest.raises(Malformed, match=f"an object has two members '{member}'; write one"):
        decode_json(body, SELECTION, NOW_US)


def test_a_json_span_with_its_attributes_twice_is_rejected_alone() -> None:
    twice = json.dumps(json_span(Emitted(1, end_ns=NOW_NS)))[:-1] + ', "attributes": []}'
    body = in_request(5, json_span(Emitted(2, end_ns=NOW_NS))).replace(b"5", twice.encode(), 1)

    decoded = decode_json(body, SELECTION, NOW_US)

    assert [rejected.detail for rejected in decoded.rejected] == ["an object has two members 'attributes'; write one"]
    assert [span.span_id[-1] for span in decoded.spans] == [2]


def test_events_links_and_texts_with_the_names_of_members_are_no_fault() -> None:
    span = json_span(
        Emitted(1, {**CALL, "prompt": '{"spans": [], "spans": []}', "spans": "resourceSpans"}, end_ns=NOW_NS)
    )
    event = {"timeUnixNano": "1", "name": "spans", "attributes": []}
    link = {"traceId": "00", "spanId": "00", "attributes": []}

    decoded = decode_json(
        in_request({**span, "events": [event, {"attributes": []}], "links": [link]}), SELECTION, NOW_US
    )

    assert (len(decoded.spans), decoded.rejected) == (1, [])


def test_log_records_and_metrics_are_counted() -> None:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=1)
    request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=2)

    assert count_protobuf_items(request.SerializeToString()) == 2
    assert count_json_items(b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{},{}]}]}]}') == 2
    assert count_json_items(b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{}]}]}]}') == 1


def test_messages_of_spans_that_did_not_fail_are_dropped() -> None:
    fine, failed = (
        Emitted(1, status=1, message="fine", end_ns=NOW_NS),
        Emitted(2, status=2, message="no", end_ns=NOW_NS),
    )

    assert [span.status_message for span in read_protobuf(fine, failed).spans] == [None, "no"]
    silent = decode_protobuf(
        protobuf(failed), Selection(dialects.MARKS, dialects.KEYS, keeps_error_messages=False), NOW_US
    )
    assert silent.spans[0].status_message is None
    assert silent.spans[0].is_error
