"""OTLP/protobuf → plain spans, on the hot path of every exporter in its default setting.

Spans stay bytes until one of the dialects' marks is found in them; the projection in `spans.proto` reads the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import DecodeError

from farebox_collector import spans_pb2
from farebox_collector.decode.numbering import INSTANCE, is_numbered
from farebox_collector.decode.reduction import (
    MAX_LIST_ITEMS,
    MAX_SCOPE_CHARACTERS,
    Decoded,
    Reduction,
    Selection,
    clean_text,
    error_text,
    keep_extract,
    parent_of,
    reduced_times,
)
from farebox_collector.errors import Malformed
from farebox_collector.spans import STATUS_ERROR, AttributeValue, Span

_TRACE_ID_HEAD: Final = b"\n\x10"  # field 1, 16 bytes: how every serializer in field order begins a span
_SPAN_ID_HEAD: Final = b"\x12\x08"  # field 2, 8 bytes
_TEXT_TAG: Final = 10  # AnyValue's field 1, a text, and field 3, a whole number
_COUNT_TAG: Final = b"\x18"
_ZERO_TRACE_ID: Final = bytes(16)
_ZERO_SPAN_ID: Final = bytes(8)
_INSTANCE_ALONE: Final = frozenset({INSTANCE})


def decode_protobuf(body: bytes, selection: Selection, now_us: int) -> Decoded:
    """Read an ExportTraceServiceRequest.

    Raises:
        Malformed: the body is no such message, or none of its spans can be parsed.
    """
    reduction = Reduction(selection, now_us)
    marks = selection.marks
    for resource_spans in parsed(body).resource_spans:
        inherited: dict[str, AttributeValue] | None = None
        for scope_spans in resource_spans.scope_spans:
            scope = text_of(scope_spans.scope.name)[:MAX_SCOPE_CHARACTERS]
            since = reduction.position() if is_numbered(scope) else None
            for raw in scope_spans.spans:
                for mark in marks:
                    if mark in raw:
                        break
                else:
                    _count_other(raw, reduction)
                    continue
                if inherited is None:
                    inherited = inherited_by(resource_spans.resource, selection.keys)
                _read_span(raw, scope, inherited, reduction)
            if since is not None:
                reduction.take_numbers(_instance(resource_spans.resource), since)
    return reduction.finish()


def count_protobuf_items(body: bytes) -> int:
    """Count the records of a logs or metrics request, whose messages nest as those of a trace request do.

    Raises:
        Malformed: the body is no such message.
    """
    return sum(len(scope.spans) for resource in parsed(body).resource_spans for scope in resource.scope_spans)


def parsed(body: bytes) -> spans_pb2.Request:
    """Read the outer shape that all signals share.

    Raises:
        Malformed: the body has another.
    """
    try:
        return spans_pb2.Request.FromString(body)
    except DecodeError as error:
        raise Malformed(f"the body is no OTLP request in protobuf: {error}") from None


def _count_other(raw: bytes, reduction: Reduction) -> None:
    """Count a span without any mark. Its ids are looked at all the same, so that no log body passes for spans."""
    if (
        raw[:2] == _TRACE_ID_HEAD
        and raw[18:20] == _SPAN_ID_HEAD
        and raw[2:18] != _ZERO_TRACE_ID
        and raw[20:28] != _ZERO_SPAN_ID
    ):
        reduction.decoded.others += 1
        return
    try:
        identity = spans_pb2.SpanIdentity.FromString(raw)
    except DecodeError as error:
        reduction.reject("malformed_span", str(error), raw)
        return
    reduction.count_other(identity.trace_id, identity.span_id, raw)


def inherited_by(resource: spans_pb2.Resource, keys: frozenset[str]) -> dict[str, AttributeValue]:
    """Read the attributes of a resource.

    Raises:
        Malformed: they are none.
    """
    try:
        return attributes_of(resource.attributes, keys, {})
    except DecodeError as error:
        raise Malformed(f"the attributes of a resource cannot be read: {error}") from None


def _instance(resource: spans_pb2.Resource) -> AttributeValue | None:
    """Read which process sent the spans, None when its resource does not say."""
    try:
        return attributes_of(resource.attributes, _INSTANCE_ALONE, {}).get(INSTANCE)
    except DecodeError:
        return None


def _read_span(raw: bytes, scope: str, inherited: dict[str, AttributeValue], reduction: Reduction) -> None:
    selection = reduction.selection
    try:
        span = spans_pb2.Span.FromString(raw)
        attributes = attributes_of(span.attributes, selection.keys, inherited.copy())
        if (extract := selection.extracts.get(scope)) is not None:
            value = spans_pb2.Value.FromString(span.attributes.get(extract.key, b""))
            keep_extract(extract, value.string_value, attributes)
    except DecodeError as error:
        reduction.reject("malformed_span", str(error), raw)
        return
    start_us, end_us = reduced_times(span.start_time_unix_nano, span.end_time_unix_nano)
    status = span.status
    code = status.code
    plain = Span(
        span.trace_id,
        span.span_id,
        parent_of(parent) if (parent := span.parent_span_id) else None,
        scope,
        span.kind,
        start_us,
        end_us,
        code == STATUS_ERROR,
        error_text(text_of(status.message), code, selection) if code else None,
        attributes,
    )
    reduction.sort_in(plain, raw)


def attributes_of(
    source: Mapping[str, bytes], keys: frozenset[str], into: dict[str, AttributeValue]
) -> dict[str, AttributeValue]:
    """Read the attributes named in `keys` into a dictionary, over what is in it.

    Raises:
        DecodeError: a value is no AnyValue.
    """
    for key in source:
        if key in keys:
            raw = source[key]
            value = _known_texts.get(raw) or _value(raw)
            if value is not None:
                into[key] = value
    return into


_known_texts: Final[dict[bytes, str]] = {}
"""Short texts by the bytes of their AnyValue: names come again in nearly every span."""
_MAX_KNOWN_TEXTS: Final = 4096
_MAX_KNOWN_BYTES: Final = 34  # ids are longer, and come once


def _value(raw: bytes) -> AttributeValue | None:
    """Read an AnyValue. Short texts and counts are read from their bytes when they stand there alone, and plainly.

    Raises:
        DecodeError: the bytes are no AnyValue.
    """
    size = len(raw)
    if size > 2 and raw[0] == _TEXT_TAG and raw[1] == size - 2 < 128:
        text = raw[2:].decode("utf-8", "replace")
        if b"\0" in raw:
            return clean_text(text)
        if size <= _MAX_KNOWN_BYTES:
            if len(_known_texts) >= _MAX_KNOWN_TEXTS:
                _known_texts.clear()
            _known_texts[raw] = text
        return text
    if raw[:1] == _COUNT_TAG and raw[-1] < 128:
        if size == 3 and raw[1] > 127:
            return raw[1] & 127 | raw[2] << 7
        if size == 2:
            return raw[1]
    return _any_value(spans_pb2.Value.FromString(raw))


def _any_value(value: spans_pb2.Value) -> AttributeValue | None:
    """Read a parsed value; an empty one says nothing, and 0 says none."""
    if value.string_value:
        return clean_text(text_of(value.string_value))
    if value.HasField("int_value"):
        return value.int_value
    if value.HasField("double_value"):
        return value.double_value
    if value.HasField("bool_value"):
        return value.bool_value
    if value.HasField("array_value"):
        items = list(value.array_value.values)[:MAX_LIST_ITEMS]
        return [clean_text(text_of(item.string_value)) for item in items if item.string_value]
    return None


def text_of(raw: bytes) -> str:
    """Read a text that need not be valid UTF-8."""
    return raw.decode("utf-8", "replace")
