"""Receives events as any subscriber would: a webhook that passes both of Event Grid's handshakes."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from local.supervisor.settings import ACCOUNT, TOPIC, CloudSettings

__all__ = ["Subscriber"]

_GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/tidegate-local"
_TOPIC_SCOPE = f"{_GROUP}/providers/Microsoft.EventGrid/topics/{TOPIC}"
_STORAGE_SCOPE = f"{_GROUP}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
_SUBSCRIPTIONS = "providers/Microsoft.EventGrid/eventSubscriptions"
_API_VERSION = "2022-06-15"
_TIMEOUT_S = 30.0


class Subscriber:
    """Two subscriptions of the demo's own: to completion events, and to what arrives in the input container."""

    def __init__(self, settings: CloudSettings, input_container: str) -> None:
        self._settings = settings
        self._input_container = input_container
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Listen and subscribe; the handshakes happen while this waits.

        Raises:
            requests.RequestException: Event Grid refused a subscription.
        """
        self._thread.start()
        self._put(
            f"{_TOPIC_SCOPE}/{_SUBSCRIPTIONS}/demo-completions",
            {"eventDeliverySchema": "CloudEventSchemaV1_0", "filter": {}},
        )
        self._put(
            f"{_STORAGE_SCOPE}/{_SUBSCRIPTIONS}/demo-arrivals",
            {
                "eventDeliverySchema": "EventGridSchema",
                "filter": {
                    "includedEventTypes": ["Microsoft.Storage.BlobCreated"],
                    "subjectBeginsWith": f"/blobServices/default/containers/{self._input_container}/",
                },
            },
        )

    def stop(self) -> None:
        """Unsubscribe and stop listening."""
        for scope, name in ((_TOPIC_SCOPE, "demo-completions"), (_STORAGE_SCOPE, "demo-arrivals")):
            requests.delete(self._arm(f"{scope}/{_SUBSCRIPTIONS}/{name}"), timeout=_TIMEOUT_S)
        self._server.shutdown()
        self._server.server_close()

    def completion(self, event_id: str) -> dict[str, Any] | None:
        """Return the completion event of this id, if it was delivered."""
        return next(
            (event for event in self.received() if event.get("id") == event_id and "specversion" in event), None
        )

    def completions(self) -> list[dict[str, Any]]:
        """Return the completion events in the order in which they came."""
        return [event for event in self.received() if "specversion" in event]

    def arrival(self, path: str, etag: str) -> dict[str, Any] | None:
        """Return the storage event of one version of one blob, if it was delivered."""
        for event in self.received():
            if str(event.get("subject", "")).endswith(f"/blobs/{path}") and event["data"]["eTag"].strip('"') == etag:
                return event
        return None

    def received(self) -> list[dict[str, Any]]:
        """Return everything that was delivered."""
        with self._lock:
            return list(self._events)

    def take(self, events: list[dict[str, Any]]) -> None:
        """Keep a delivery."""
        with self._lock:
            self._events += events

    def _put(self, path: str, properties: dict[str, Any]) -> None:
        body = {
            "properties": {
                **properties,
                "destination": {"endpointType": "WebHook", "properties": {"endpointUrl": f"{self.url}/events"}},
                "retryPolicy": {"maxDeliveryAttempts": 3, "eventTimeToLiveInMinutes": 5},
            }
        }
        requests.put(self._arm(path), json=body, timeout=_TIMEOUT_S).raise_for_status()

    def _arm(self, path: str) -> str:
        return f"{self._settings.url('event_grid')}{path}?api-version={_API_VERSION}"


def _handler_of(subscriber: Subscriber) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_OPTIONS(self) -> None:
            """Consent to CloudEvents."""
            self.send_response(200)
            self.send_header("WebHook-Allowed-Origin", self.headers.get("WebHook-Request-Origin", "*"))
            self.send_header("WebHook-Allowed-Rate", "*")
            self.end_headers()

        def do_POST(self) -> None:
            """Answer the validation of Event Grid's own schema, or keep the events."""
            content = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            events = content if isinstance(content, list) else [content]
            answer = b""
            if self.headers.get("aeg-event-type") == "SubscriptionValidation":
                answer = json.dumps({"validationResponse": events[0]["data"]["validationCode"]}).encode()
            else:
                subscriber.take(events)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
            """Stay silent."""

    return Handler
