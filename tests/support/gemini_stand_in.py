"""A stand-in for the Gemini API on loopback: enough of it that the real `gemini` program runs against it offline.

It answers `POST /v1beta/models/MODEL:streamGenerateContent?alt=sse` (and `:generateContent`) with a text of the test's
choice, and keeps what it was asked. The shapes are those of the public API (`GenerateContentResponse`).
"""

import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PATH = re.compile(r"/v1(?:beta)?/models/(?P<model>[^:/?]+):(?P<method>[A-Za-z]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it arrived: model, method of the API, the key it carried, and its body."""

    model: str
    method: str
    key: str | None
    body: dict[str, Any]

    @property
    def system(self) -> str:
        """The system instruction's text."""
        return _text(self.body.get("systemInstruction", {}))

    @property
    def prompt(self) -> str:
        """The text of every turn so far."""
        return "\n".join(_text(turn) for turn in self.body.get("contents", []))

    @property
    def tools(self) -> list[str]:
        """Names of the functions that the model was offered."""
        return [one["name"] for tool in self.body.get("tools", []) for one in tool.get("functionDeclarations", [])]


@dataclass(slots=True)
class GeminiStandIn:
    """What to answer, and what was asked. A `status` other than 200 answers an API error instead of `reply`."""

    url: str = ""
    reply: str = "{}"
    status: int = 200
    hold: threading.Event | None = None
    """Answers wait until it is set, so that a test can look at the program while it runs."""
    asked: list[Asked] = field(default_factory=list[Asked])
    arrived: threading.Event = field(default_factory=threading.Event)

    def answer(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        """Status and body for one request."""
        self.asked.append(asked)
        self.arrived.set()
        if self.hold is not None:
            self.hold.wait(60)
        if self.status != 200:
            return self.status, {"error": {"code": self.status, "message": "the stand-in refuses", "status": "REFUSED"}}
        if asked.method == "countTokens":
            return 200, {"totalTokens": 7}
        part = {"role": "model", "parts": [{"text": self.reply}]}
        usage = {"promptTokenCount": 120, "candidatesTokenCount": 30, "totalTokenCount": 150}
        return 200, {
            "candidates": [{"content": part, "finishReason": "STOP", "index": 0}],
            "usageMetadata": usage,
            "modelVersion": asked.model,
        }


@contextmanager
def gemini_stand_in() -> Generator[GeminiStandIn]:
    """Runs a stand-in on a free port of 127.0.0.1; `url` is what GOOGLE_GEMINI_BASE_URL takes."""
    stand_in = GeminiStandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = _PATH.match(self.path)
            if found is None:
                self._send(404, b"{}", "application/json")
                return
            status, answer = stand_in.answer(
                Asked(
                    model=found["model"],
                    method=found["method"],
                    key=self.headers.get("x-goog-api-key"),
                    body=json.loads(body or b"{}"),
                )
            )
            text = json.dumps(answer).encode()
            if status == 200 and "alt=sse" in self.path:
                self._send(200, b"data: " + text + b"\r\n\r\n", "text/event-stream")
            else:
                self._send(status, text, "application/json")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Says nothing: a test's output is its own."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A program that was killed in the middle of a request is what some tests want."""

    server = Server(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="gemini-stand-in")
    thread.start()
    try:
        yield stand_in
    finally:
        if stand_in.hold is not None:
            stand_in.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _text(content: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in content.get("parts", []))
