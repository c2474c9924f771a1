"""Publishes completion events to the Event Grid topic of the environment."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from azure.core.exceptions import AzureError
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient

__all__ = ["EventGridAnnouncer"]

_LOGGER: Final = logging.getLogger("tidegate_mlops")
_RETRIES: Final = 3  # with the time-outs below, an unreachable topic costs half a minute at most


class EventGridAnnouncer:
    """An `Announcer` on azure-eventgrid; sending the same event twice is harmless, as its id is the same."""

    def __init__(self, endpoint: str, credential: Any) -> None:
        self._endpoint = endpoint
        self._credential = credential  # an AzureKeyCredential or a token credential

    def announce(self, event: Mapping[str, object]) -> bool:
        """Publish the event with retries; False if it could not be delivered: the reconciler then announces it."""
        try:
            with EventGridPublisherClient(
                self._endpoint,
                self._credential,
                retry_total=_RETRIES,
                retry_backoff_factor=0.5,
                connection_timeout=4,
                read_timeout=8,
            ) as client:
                client.send(_cloud_event(event))
        except AzureError as error:
            _LOGGER.warning(
                "completion event not delivered",
                extra={"event_id": event["id"], "error": type(error).__name__},
                exc_info=error,
            )
            return False
        return True


def _cloud_event(event: Mapping[str, object]) -> CloudEvent[object]:
    built: CloudEvent[object] = CloudEvent(
        source=str(event["source"]),
        type=str(event["type"]),
        id=str(event["id"]),
        subject=str(event["subject"]),
        time=datetime.fromisoformat(str(event["time"])),
        datacontenttype=str(event["datacontenttype"]),
        dataschema=str(event["dataschema"]),
        data=event["data"],
    )
    if "traceparent" in event:
        built.extensions = {"traceparent": event["traceparent"]}
    return built
