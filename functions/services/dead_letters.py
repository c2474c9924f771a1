"""Lists and opens what was given up and waits for a person: quarantined messages and Event Grid's dead letters."""

from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Final

from functions.core.dead_letters import GivenUp, read_dead_letter
from functions.core.errors import InvalidDocumentError, InvalidRequestError, NotFoundError, Problem
from functions.core.reading import to_iso
from functions.ports import Entry
from functions.services.plane import ControlPlane

__all__ = ["OpenedLetter", "list_dead_letters", "open_dead_letter", "read_letter"]

_AT_A_TIME: Final = 1000  # letters: before those that wait there may be many that do not
_SHOWN: Final = 200  # characters of a name


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedLetter:
    """What is in a dead letter, and of which version of it that was read."""

    messages: tuple[GivenUp, ...]
    sha256: str  # of the content: marks change the version, but not this
    version: str


def read_letter(plane: ControlPlane, name: str) -> Entry[bytes]:
    """Return the content of a blob among the dead letters, whatever it is; raises NotFoundError."""
    try:
        return plane.quarantine.read(name)
    except NotFoundError as error:
        why = "there is none of this name; `tidegate dead-letters` lists them"
        raise NotFoundError(f"looking for dead letter {name[:_SHOWN]!r}", why) from error


def open_dead_letter(plane: ControlPlane, name: str) -> OpenedLetter:
    """Return what is in a dead letter now.

    Raises:
        NotFoundError: There is none of this name.
        InvalidRequestError: The blob of this name is no dead letter.
    """
    letter = read_letter(plane, name)
    try:
        messages = read_dead_letter(letter.value)
    except InvalidDocumentError as error:
        shown = repr(name[:_SHOWN])
        raise InvalidRequestError([Problem("dead_letter", shown, f"a dead letter, but {error}")]) from error
    return OpenedLetter(messages=messages, sha256=sha256(letter.value).hexdigest(), version=letter.version)


def list_dead_letters(plane: ControlPlane, *, prefix: str, are_all_wanted: bool, limit: int) -> list[dict[str, object]]:
    """Return the blobs of the dead-letter container below a prefix, by name; quarantined messages with their reason.

    Those that were replayed or dismissed wait for nobody, and are listed on demand only.
    Names below `poison/` begin with a date, Event Grid's with the subscription's name, then year, month, day, hour.
    """
    reasons = {message.url.partition("/deadletter/")[2]: message for message in plane.ledger.quarantined(limit=1000)}
    kept = plane.quarantine.list(prefix, at_a_time=limit if are_all_wanted else max(limit, _AT_A_TIME))
    wanted = (letter for letter in kept if are_all_wanted or letter.is_waiting)
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
                "dismissed": None if letter.dismissed is None else letter.dismissed.to_json(),
            }
        )
    return found
