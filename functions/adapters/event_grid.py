"""Publishes what became of attempts and of pipelines to the Event Grid topic."""

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from functions.adapters.azure_errors import azure_errors
from functions.core.announcements import Announcement
from functions.core.errors import PublicationError

if TYPE_CHECKING:
    from azure.eventgrid import EventGridPublisherClient

__all__ = ["EventGridCompletions"]


class EventGridCompletions:
    """Implements `CompletionPublisher`: with the managed identity, or with a key where one is set (the local cloud)."""

    def __init__(self, endpoint: str, *, key: str | None = None, client_id: str | None = None) -> None:
        self._endpoint = endpoint
        self._key = key
        self._client_id = client_id
        self._lock = threading.Lock()
        self._client: EventGridPublisherClient | None = None

    def publish(self, events: Iterable[Announcement]) -> None:
        """Publish each event as CloudEvents 1.0 under its own id; all of them or none."""
        from azure.core.messaging import CloudEvent

        documents = [
            CloudEvent(
                id=event.id,
                source=event.source,
                type=event.type,
                subject=event.subject,
                time=event.time,
                datacontenttype="application/json",
                dataschema=event.dataschema,
                data=event.to_data(),
                extensions={"traceparent": event.traceparent} if event.traceparent else {},
            )
            for event in events
        ]
        if documents:
            with azure_errors(f"publishing {len(documents)} event(s)", PublicationError):
                self._publisher.send(documents)

    @property
    def _publisher(self) -> "EventGridPublisherClient":
        with self._lock:
            if self._client is None:
                from azure.eventgrid import EventGridPublisherClient

                self._client = EventGridPublisherClient(
                    self._endpoint, self._credential(), retry_total=1, connection_timeout=5, read_timeout=15
                )
            return self._client

    def _credential(self) -> Any:  # azure-eventgrid takes three kinds of credentials without a common type
        if self._key is not None:
            from azure.core.credentials import AzureKeyCredential

            return AzureKeyCredential(self._key)
        from azure.identity import ManagedIdentityCredential

        return ManagedIdentityCredential(client_id=self._client_id, retry_total=1)
