"""A gateway that says what a test gives it, for commands that ask one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]
"""Status and JSON; a list is a stream of (id, name, data), after which the connection is lost."""


class GatewayDouble:
    """Answers `METHOD PATH` (unquoted, without its query) by `answers`: an answer, or what makes one of each request.
    `requests` are (method and path, query, headers)."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[..., Answer]] = {}
        self.requests: list[tuple[str, dict[str, str], dict[str, str]]] = []
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                double._answer(self)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                double._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        asked = f"{handler.command} {unquote(url.path)}"
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append((asked, query, headers))
        answer = self.answers.get(asked, (404, {"detail": f"nothing at {asked}", "reason": "NoSuchPath"}))
        status, body = answer(query, headers) if callable(answer) else answer
        handler.send_response(status)
        if isinstance(body, list):
            handler.send_header("content-type", "text/event-stream")
            handler.end_headers()
            for event_id, name, data in body:
                handler.wfile.write(f"id: {event_id}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode())
        else:
            handler.send_header("content-type", "application/json")
            handler.end_headers()
            handler.wfile.write(json.dumps(body).encode())
