"""Runs a webhook that remembers what it got and answers as a test tells it."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Answer", "Received", "Webhook", "consenting", "running_webhook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to send back."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


@dataclass(slots=True, kw_only=True)
class Webhook:
    """A running webhook."""

    url: str
    answer: Callable[[Received], Answer]
    received: list[Received] = field(default_factory=list[Received])

    @property
    def notifications(self) -> list[Received]:
        """The deliveries, without handshakes."""
        return [item for item in self.received if item.headers.get("aeg-event-type") == "Notification"]


def consenting(request: Received) -> Answer:
    """Consent to both handshakes and take every event."""
    if request.method == "OPTIONS":
        return Answer(headers={"WebHook-Allowed-Origin": request.headers["webhook-request-origin"]})
    if request.headers.get("aeg-event-type") == "SubscriptionValidation":
        code = request.document[0]["data"]["validationCode"]
        return Answer(body=json.dumps({"validationResponse": code}).encode())
    return Answer()


@contextmanager
def running_webhook(answer: Callable[[Received], Answer] = consenting, *, port: int = 0) -> Iterator[Webhook]:
    """Yield a webhook, on a free port unless one is given."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(method=self.command, path=self.path, headers=headers, body=body)
            webhook.received.append(request)
            given = webhook.answer(request)
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            self.wfile.write(given.body)

        do_POST = do_OPTIONS = _handle  # noqa: N815 - the standard library's names

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    webhook = Webhook(url=f"http://127.0.0.1:{server.server_port}/hook", answer=answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield webhook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
