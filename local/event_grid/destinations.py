"""Makes delivery attempts: into storage queues, to webhooks, and dead letters into blobs."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from local.event_grid.config import Settings
from local.event_grid.events import EventSchema, rendered
from local.event_grid.filters import look_up_text
from local.event_grid.schedule import DestinationKind, Failure
from local.event_grid.storage_client import StorageClient, quoted
from local.event_grid.store import Delivery
from local.event_grid.subscriptions import Subscription
from local.event_grid.wire import compact

__all__ = ["ORIGIN", "Destinations"]

ORIGIN: Final = "eventgrid.azure.net"
_TAKEN: Final = frozenset({200, 201, 202, 203, 204})
# Source: Microsoft Learn, "Event Grid message delivery and retry", values of lastDeliveryOutcome.
_OUTCOMES: Final[Mapping[int, str]] = {
    HTTPStatus.BAD_REQUEST: "BadRequest",
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.NOT_FOUND: "NotFound",
    HTTPStatus.REQUEST_TIMEOUT: "TimedOut",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "PayloadTooLarge",
    HTTPStatus.TOO_MANY_REQUESTS: "Busy",
    HTTPStatus.SERVICE_UNAVAILABLE: "Busy",
}
_QUEUE_MESSAGE_LIMIT: Final = 64 * 1024  # bytes of base64 text
_LOG = logging.getLogger(__name__)


class Destinations:
    """Knows how to reach every kind of destination."""

    def __init__(
        self, session: aiohttp.ClientSession, storage: StorageClient, settings: Settings, *, blob_endpoint: str
    ) -> None:
        self._session, self._storage, self._settings = session, storage, settings
        self._blob_endpoint = blob_endpoint

    async def send(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> Failure | None:
        """Make one attempt; return None if it was taken. A batch is taken as a whole or not at all."""
        try:
            async with asyncio.timeout(self._settings.delivery_timeout_s):
                if subscription.kind is DestinationKind.AZURE_RESOURCE:
                    status = await self._to_queue(subscription, deliveries)
                else:
                    status = await self._to_webhook(subscription, deliveries)
        except TimeoutError:
            return Failure(status=None, outcome="TimedOut")
        except aiohttp.ClientConnectorDNSError:
            return Failure(status=None, outcome="ResolutionError")
        except (aiohttp.ClientError, OSError):
            return Failure(status=None, outcome="SocketError")
        return None if status in _TAKEN else Failure(status=status, outcome=_OUTCOMES.get(status, "GenericError"))

    async def write_dead_letter(self, container: str, path: str, body: bytes) -> bool:
        """Write the blob through the storage account's own endpoint; return whether that worked."""
        try:
            status = await self._storage.put_blob(f"{self._blob_endpoint}/{container}/{quoted(path)}", body)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False
        return status == HTTPStatus.CREATED

    async def prepare(self, subscription: Subscription) -> None:
        """Create the queue and the dead-letter container of a subscription, until both exist.

        On Azure the deployment does this; here it lets a subscription of the configuration file work at once.
        """
        while True:
            try:
                if subscription.kind is DestinationKind.AZURE_RESOURCE:
                    await self._storage.create_queue(self._queue_url(subscription))
                if subscription.dead_letter_container is not None:
                    await self._storage.create_container(f"{self._blob_endpoint}/{subscription.dead_letter_container}")
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(0.5)  # the storage emulator is not up yet
            else:
                return

    def _queue_url(self, subscription: Subscription) -> str:
        return f"{self._settings.queue_endpoint}/{subscription.target}"

    async def _to_queue(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> int:
        body = compact(rendered(deliveries[0].event, subscription.schema))
        if len(body) * 4 / 3 > _QUEUE_MESSAGE_LIMIT:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return await self._storage.put_message(
            self._queue_url(subscription),
            body,
            ttl_s=subscription.queue_message_ttl_s,
            timeout_s=self._settings.delivery_timeout_s,
        )

    async def _to_webhook(self, subscription: Subscription, deliveries: Sequence[Delivery]) -> int:
        events = [rendered(item.event, subscription.schema) for item in deliveries]
        is_single_cloud_event = (
            subscription.schema is EventSchema.CLOUD_EVENTS and subscription.max_events_per_batch == 1
        )
        async with self._session.post(
            URL(subscription.target, encoded=True),
            data=compact(events[0] if is_single_cloud_event else events),
            headers=_headers(subscription, deliveries),
            allow_redirects=False,
        ) as response:
            await response.read()
            return response.status


def _headers(subscription: Subscription, deliveries: Sequence[Delivery]) -> dict[str, str]:
    """Return the headers of a delivery to a webhook."""
    first = deliveries[0]
    headers = {
        "aeg-event-type": "Notification",
        "aeg-subscription-name": subscription.name.upper(),
        "aeg-delivery-count": str(first.attempts),
        "aeg-metadata-version": "1",
    }
    if subscription.schema is EventSchema.EVENT_GRID:
        headers["Content-Type"] = "application/json; charset=utf-8"
        headers["aeg-data-version"] = str(first.event.body.get("dataVersion") or "")
    else:
        kind = "cloudevents" if subscription.max_events_per_batch == 1 else "cloudevents-batch"
        headers["Content-Type"] = f"application/{kind}+json; charset=utf-8"
        headers["WebHook-Request-Origin"] = ORIGIN
    for item in subscription.delivery_properties:
        value = item.value if item.source_field is None else look_up_text(first.event.body, item.source_field)
        if value is not None and value.isprintable():
            headers[item.name] = value
    return headers
