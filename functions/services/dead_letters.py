"""Lists what was given up and waits for a person: quarantined messages and Event Grid's dead letters."""

from functions.core.reading import to_iso
from functions.services.plane import ControlPlane

__all__ = ["list_dead_letters"]


def list_dead_letters(plane: ControlPlane, *, prefix: str, limit: int) -> list[dict[str, object]]:
    """Return the blobs of the dead-letter container below a prefix, by name; quarantined messages with their reason.

    Names below `poison/` begin with a date, Event Grid's with the subscription's name, then year, month, day, hour.
    """
    reasons = {message.url.partition("/deadletter/")[2]: message for message in plane.ledger.quarantined(limit=1000)}
    found: list[dict[str, object]] = []
    for name, kept_at in plane.quarantine.list(prefix, limit=limit):
        message = reasons.get(name)
        found.append(
            {
                "name": name,
                "at": to_iso(kept_at),
                "queue": None if message is None else message.queue,
                "reason": None if message is None else message.reason,
            }
        )
    return found
