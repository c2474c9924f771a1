"""Lists what was given up and waits for a person: quarantined messages and Event Grid's dead letters."""

from itertools import islice
from typing import Final

from functions.core.reading import to_iso
from functions.services.plane import ControlPlane

__all__ = ["list_dead_letters"]

_AT_A_TIME: Final = 1000  # letters: before those that wait there may be many that were replayed


def list_dead_letters(
    plane: ControlPlane, *, prefix: str, are_replayed_wanted: bool, limit: int
) -> list[dict[str, object]]:
    """Return the blobs of the dead-letter container below a prefix, by name; quarantined messages with their reason.

    Those that were replayed wait for nobody, and are listed on demand only.
    Names below `poison/` begin with a date, Event Grid's with the subscription's name, then year, month, day, hour.
    """
    reasons = {message.url.partition("/deadletter/")[2]: message for message in plane.ledger.quarantined(limit=1000)}
    kept = plane.quarantine.list(prefix, at_a_time=limit if are_replayed_wanted else max(limit, _AT_A_TIME))
    wanted = (letter for letter in kept if are_replayed_wanted or letter.replayed is None)
    found: list[dict[str, object]] = []
    for letter in islice(wanted, limit):
        message = reasons.get(letter.name)
        found.append(
            {
                "name": letter.name,
                "at": to_iso(letter.kept_at),
                "queue": None if message is None else message.queue,
                "reason": None if message is None else message.reason,
                "replayed": None if letter.replayed is None else letter.replayed.to_json(),
            }
        )
    return found
