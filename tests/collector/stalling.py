"""Senders over gRPC that begin a message and do not finish it, in HTTP/2's own frames: no client can be told to."""

from __future__ import annotations

import socket
import struct
import time

from tests.collector.wires import EXPORT

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_INITIAL_WINDOW = 65_535
_MAX_FRAME = 16_384


class Stalling:
    """One connection with one call, of whose message the last byte never comes."""

    def __init__(self, address: str, message_bytes: int) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=20)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0) + _call())
        self._received = b""
        self._windows = {0: _INITIAL_WINDOW, 1: _INITIAL_WINDOW}
        self._first_window = _INITIAL_WINDOW
        self._rest = memoryview(b"\0" + struct.pack(">I", message_bytes) + bytes(message_bytes - 1))
        self.is_ended = False

    @property
    def unsent_bytes(self) -> int:
        return len(self._rest)

    def go_on(self) -> int:
        """Send what the server takes by now, and answer how much that was."""
        self._read()
        before = len(self._rest)
        while not self.is_ended and (size := min(len(self._rest), _MAX_FRAME, *self._windows.values())) > 0:
            self._send(_frame(_DATA, 0, 1, bytes(self._rest[:size])))
            self._rest = self._rest[size:]
            for stream in self._windows:
                self._windows[stream] -= size
        return before - len(self._rest)

    def close(self) -> None:
        self._socket.close()

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(20)
        self._socket.sendall(data)

    def _read(self) -> None:
        self._socket.settimeout(0.001)
        try:
            received = self._socket.recv(65_536)
        except (TimeoutError, BlockingIOError):
            return
        self.is_ended |= not received
        self._received += received
        while len(self._received) >= 9 and len(self._received) >= (end := 9 + int.from_bytes(self._received[:3])):
            kind, flags = self._received[3:5]
            self._take(kind, flags, int.from_bytes(self._received[5:9]), self._received[9:end])
            self._received = self._received[end:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _WINDOW:
            self._windows[stream] += int.from_bytes(payload)
        elif kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == 4:
                    self._windows[1] += value - self._first_window
                    self._first_window = value
            self._send(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            self._send(_frame(_PING, _ACK, 0, payload))
        elif kind in (_RESET, _GOAWAY) or (kind == _HEADERS and flags & _END_STREAM):
            self.is_ended = True


def stalled(address: str, connections: int, message_bytes: int, *, seconds: float) -> list[Stalling]:
    """Begin calls on connections of their own, and send for some seconds as much of them as the server takes."""
    calls = [Stalling(address, message_bytes) for _ in range(connections)]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not sum(call.go_on() for call in calls):
            time.sleep(0.01)
    return calls


def _call() -> bytes:
    """Write the head of an export: literal fields of HPACK, which need no table."""
    fields = {":path": EXPORT, ":authority": "test", "content-type": "application/grpc", "te": "trailers"}
    texts = [text.encode() for field in fields.items() for text in field]
    written = [bytes((len(text),)) + text for text in texts]
    pairs = [b"\0" + written[at] + written[at + 1] for at in range(0, len(written), 2)]
    return _frame(_HEADERS, _END_HEADERS, 1, b"\x83\x86" + b"".join(pairs))


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload
