"""Listens to Tidegate's events as a plain web service, and keeps how each attempt ended; standard library only.

    SUBSCRIBER_KEY=… python samples/subscriber/web_service.py --port 8080 --database ends.db

Event Grid's webhook is http://…/events?key=<SUBSCRIBER_KEY>; `GET /ends?key=…` shows what was received.
"""

import argparse
import hmac
import json
import os
import sqlite3
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dedupe import SqliteSeenEvents, key_of
from webhook import Reply, answer

_FACTS = {"run_id", "attempt", "outcome", "announced_by"}  # what a completion event has, and no other type
_KEPT = (
    "CREATE TABLE IF NOT EXISTS ends (run_id TEXT, attempt INTEGER, outcome TEXT, announced_by TEXT, "
    "changes INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (run_id, attempt))"
)
# The control plane has the last word: it corrects what a notebook claimed, in whatever order the two arrive.
_KEEP = (
    "INSERT INTO ends (run_id, attempt, outcome, announced_by) VALUES (:run_id, :attempt, :outcome, :announced_by) "
    "ON CONFLICT DO UPDATE SET outcome = excluded.outcome, announced_by = excluded.announced_by, changes = changes + 1 "
    "WHERE excluded.announced_by = 'control_plane'"
)


class Subscriber:
    """Keeps the end of each attempt, in the same transaction that marks its event as handled: exactly once."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._seen = SqliteSeenEvents(database)
        with sqlite3.connect(database) as connection:
            connection.execute(_KEPT)

    def receive(self, event: Mapping[str, Any]) -> bool:
        """Keep what an event says; a repeat changes nothing."""
        with self._seen.transaction(key_of(event), now=time.time()) as connection:
            data = event.get("data")
            if connection is not None and isinstance(data, dict) and data.keys() >= _FACTS:
                connection.execute(_KEEP, {name: data[name] for name in _FACTS})
        return True

    def ends(self) -> list[dict[str, Any]]:
        """Return how attempts ended."""
        with sqlite3.connect(self._database) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM ends ORDER BY run_id, attempt")]


def make_server(port: int, subscriber: Subscriber, key: str) -> ThreadingHTTPServer:
    """Return a server on the loopback interface; put TLS and the outside world in front of it."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            self._send(self._reply())

        def _reply(self) -> Reply:
            url = urlsplit(self.path)
            given = parse_qs(url.query).get("key", [""])[0]
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not hmac.compare_digest(given.encode(), key.encode()):
                return Reply(status=401)
            if url.path == "/ends" and self.command == "GET":
                headers = {"Content-Type": "application/json"}
                return Reply(status=200, headers=headers, body=json.dumps(subscriber.ends()))
            if url.path != "/events":
                return Reply(status=404)
            try:
                return answer(self.command, dict(self.headers), body, receive=subscriber.receive)
            except ValueError as error:  # an event without an identity: nothing that comes later can mend it
                return Reply(status=400, body=str(error))

        def _send(self, reply: Reply) -> None:
            body = reply.body.encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_OPTIONS = _handle  # noqa: N815 - the standard library's names

        def log_message(self, *args: object) -> None:
            """Say nothing: the request line has the key."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--database", default="ends.db")
    options = parser.parse_args()
    make_server(options.port, Subscriber(options.database), os.environ["SUBSCRIBER_KEY"]).serve_forever()


if __name__ == "__main__":
    main()
