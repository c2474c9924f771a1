"""Makes the event of an arrival again, so that it can be decided about once more."""

from functions.core.ledger import Arrival
from functions.core.model import BlobCreated

__all__ = ["event_of"]


def event_of(arrival: Arrival) -> BlobCreated:
    """Return the event of an arrival as it came, as far as its decision depends on it."""
    return BlobCreated(
        event_id=arrival.event_id,
        event_time=arrival.event_time,
        api=arrival.api,
        blob=arrival.blob,
        content_type=arrival.content_type,
        traceparent=arrival.traceparent,
        source=arrival.source,
    )
