"""Turns the bytes of a request into plain spans that keep only the allow-list."""

from farebox_collector.decode.json import count_json_items, decode_json
from farebox_collector.decode.logs import Identify, decode_logs
from farebox_collector.decode.numbering import Numbered
from farebox_collector.decode.protobuf import count_protobuf_items, decode_protobuf
from farebox_collector.decode.reduction import EARLIEST_US, MAX_AHEAD_US, Decoded, Selection

__all__ = [
    "EARLIEST_US",
    "MAX_AHEAD_US",
    "Decoded",
    "Identify",
    "Numbered",
    "Selection",
    "count_json_items",
    "count_protobuf_items",
    "decode_json",
    "decode_logs",
    "decode_protobuf",
]
