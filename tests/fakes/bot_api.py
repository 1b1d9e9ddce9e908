"""A Bot API of Telegram's on the loopback: hands out the updates it was given and keeps what the bot says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN = "123456:a-token-that-nobody-has"


class BotApi:
    """Messages to the bot, and from it."""

    def __init__(self) -> None:
        self.address = ""
        self.sent: list[tuple[int, str]] = []
        self._updates: list[dict[str, Any]] = []

    def say(self, chat_id: int, text: str) -> None:
        """Write to the bot, as a chat."""
        number = len(self._updates) + 1
        message = {
            "message_id": number,
            "date": int(time.time()),
            "chat": {"id": chat_id, "type": "private"},
            "from": {"id": chat_id, "is_bot": False, "first_name": "Ann"},
            "text": text,
            "entities": [{"type": "bot_command", "offset": 0, "length": len(text)}],
        }
        self._updates.append({"update_id": number, "message": message})

    def wait_for(self, count: int, timeout_s: float = 30.0) -> list[tuple[int, str]]:
        """Wait until the bot has sent that many messages."""
        deadline = time.monotonic() + timeout_s
        while len(self.sent) < count:
            assert time.monotonic() < deadline, f"the bot said {self.sent}"
            time.sleep(0.02)
        return self.sent

    def answer(self, method: str, asked: dict[str, str]) -> Any:
        if method == "getMe":
            return {"id": 1, "is_bot": True, "first_name": "farebox", "username": "farebox_bot"}
        if method == "getUpdates":
            return self._fresh(int(asked.get("offset", "0")))
        if method == "sendMessage":
            self.sent.append((int(asked["chat_id"]), asked["text"]))
            chat = {"id": int(asked["chat_id"]), "type": "private"}
            return {"message_id": 1, "date": int(time.time()), "chat": chat, "text": asked["text"]}
        return True

    def _fresh(self, offset: int) -> list[dict[str, Any]]:
        fresh = [one for one in self._updates if one["update_id"] >= offset]
        if not fresh:
            time.sleep(0.1)
        return fresh


@contextmanager
def bot_api() -> Iterator[BotApi]:
    """Serve a Bot API until the end of the block."""
    api = BotApi()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            asked = {name: values[0] for name, values in parse_qs(body).items()}
            _, token, method = self.path.rsplit("/", 2)
            is_known = token == f"bot{TOKEN}"
            said = {"ok": True, "result": api.answer(method, asked)} if is_known else UNKNOWN
            answer = json.dumps(said).encode()
            self.send_response(200 if is_known else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api.address = f"http://127.0.0.1:{server.server_address[1]}/bot"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


UNKNOWN = {"ok": False, "error_code": 401, "description": "Unauthorized"}
