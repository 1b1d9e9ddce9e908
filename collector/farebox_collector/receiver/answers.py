"""What a sender is answered, on both transports and in both encodings.

Exporters give up after about 10 s, obey hints of at most about 9 s, and lose the batch on any other error: so
whatever is not the sender's fault is 503 or UNAVAILABLE with a hint of two seconds.
"""

from __future__ import annotations

from typing import Final

import msgspec

from farebox_collector.answers_pb2 import Detail, Duration, ExportResponse, PartialSuccess, RetryInfo, Status
from farebox_collector.errors import Refused
from farebox_collector.intake import Encoding, Receipt
from farebox_collector.telemetry import Signal

RETRY_AFTER: Final = b"2"
"""Seconds for HTTP. A hint beyond about 9 s makes the SDKs drop the batch at once, 0 makes them burn their tries."""
MAX_MESSAGE_CHARACTERS: Final = 2000

_RETRY_INFO: Final = RetryInfo(retry_delay=Duration(seconds=1, nanos=900_000_000)).SerializeToString()
_RETRY_INFO_TYPE: Final = "type.googleapis.com/google.rpc.RetryInfo"
_REJECTED_NAMES: Final[dict[Signal, str]] = {
    "traces": "rejectedSpans",
    "logs": "rejectedLogRecords",
    "metrics": "rejectedDataPoints",
}


def receipt_body(receipt: Receipt, encoding: Encoding, signal: Signal = "traces") -> bytes:
    """Write an export response; without anything to say, `partial_success` stays unset as the protocol demands."""
    is_plain = not receipt.rejected and not receipt.message
    message = receipt.message[:MAX_MESSAGE_CHARACTERS]
    if encoding == "json":
        if is_plain:
            return b"{}"
        # A 64-bit number is a string in protobuf's JSON.
        partial = {_REJECTED_NAMES[signal]: str(receipt.rejected), "errorMessage": message}
        return msgspec.json.encode({"partialSuccess": partial})
    if is_plain:
        return b""
    return ExportResponse(
        partial_success=PartialSuccess(rejected=receipt.rejected, error_message=message)
    ).SerializeToString()


def status_body(refused: Refused, encoding: Encoding) -> bytes:
    """Write a google.rpc.Status, the body of every HTTP error."""
    message = str(refused)[:MAX_MESSAGE_CHARACTERS]
    if encoding == "json":
        return msgspec.json.encode({"code": refused.grpc_code, "message": message})
    return Status(code=refused.grpc_code, message=message).SerializeToString()


def retry_trailers(refused: Refused) -> tuple[tuple[str, bytes], ...]:
    """Write the hint of a retryable refusal for gRPC, empty for others.

    The standard trailer serves every exporter but Python's, which reads `google.rpc.retryinfo-bin` alone.
    """
    if not refused.is_retryable:
        return ()
    status = Status(
        code=refused.grpc_code,
        message=str(refused)[:MAX_MESSAGE_CHARACTERS],
        details=[Detail(type_url=_RETRY_INFO_TYPE, value=_RETRY_INFO)],
    )
    return (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("google.rpc.retryinfo-bin", _RETRY_INFO),
    )
