"""States what the ledger keeps of a replay, and what may be replayed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

from functions.core.errors import InvalidRequestError, Problem
from functions.core.ledger import Change
from functions.core.model import require_utc
from functions.core.reading import Reader, shown, to_iso
from functions.core.row_fields import RowFields, to_text
from functions.core.rows import Row, pack_row
from functions.core.tokens import RUN_ID_PATTERN, digest

__all__ = [
    "Replay",
    "ReplayKind",
    "ReplayTarget",
    "is_replayed_by",
    "parse_replay_request",
    "read_dead_letter_name",
    "replay_from_row",
    "replay_id_of",
    "replay_to_row",
]

_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_ARRIVAL_ID: Final = r"[0-9a-f]{64}"
_MAX_NAME: Final = 1024
# Characters that make a name look like another one.
_DECEPTIVE: Final = re.compile("[\\x00-\\x1f\\x7f-\\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\\\\]")
_SHOWN_ID: Final = 16
_MAX_ACCOUNT: Final = 50_000  # characters of what a replay did, and of what it did not: a row holds a mebibyte


class ReplayKind(StrEnum):
    """What can be replayed; the value is the key of the request's body."""

    ARRIVAL = "arrival"
    RUN = "run"
    DEAD_LETTER = "dead_letter"  # a blob that Event Grid or the quarantine left in the container deadletter


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayTarget:
    """One thing to be replayed."""

    kind: ReplayKind
    name: str  # an arrival's id, a run's id, or the path of a blob in the container deadletter
    at: datetime | None = None  # of an arrival: when it was recorded, which finds it at once

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One replay under its id: what was wanted, by whom, and what came of it."""

    id: str
    target: str
    actor: str
    requested_at: datetime
    done_at: datetime | None = None  # None: it may have been cut short, so a repeat goes on with it
    did: tuple[str, ...] = ()
    did_not: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_utc(self.requested_at, "requested_at")

    @property
    def note(self) -> str:
        """What the history of an entry says, and by which a repeat finds that the replay has reached it."""
        return f"replayed by {self.actor} (replay {self.id[:_SHOWN_ID]})"


def is_replayed_by(history: tuple[Change, ...], replay: Replay) -> bool:
    """Return whether this very replay has reached the entry of this history before."""
    return any(f"(replay {replay.id[:_SHOWN_ID]})" in change.note for change in history)


def replay_id_of(idempotency_key: str | None, *derived_from: str) -> str:
    """Return the id of a replay: from the caller's key, else from the target as it is now."""
    if idempotency_key is not None:
        return digest("replay key", idempotency_key)
    return digest("replay", *derived_from)


def parse_replay_request(document: object, *, idempotency_key: str | None, account: str) -> ReplayTarget:
    """Return what a body asks to be replayed; raises InvalidRequestError listing every mistake.

    A dead letter is a path in the container `deadletter`, or its URL in the app's own account.
    """
    problems: list[Problem] = []
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        expected = "1 to 128 letters, digits, '_', '.', ':' or '-'"
        problems.append(Problem("Idempotency-Key", shown(idempotency_key), expected))
    root = Reader(document, "", problems)
    root.mapping(optional=(*ReplayKind, "at"))
    kinds = [kind for kind in ReplayKind if not root.child(kind.value).is_absent]
    if len(kinds) != 1:
        problems.append(Problem("body", f"{len(kinds)} of them", f"exactly one of {', '.join(ReplayKind)}"))
        raise InvalidRequestError(problems)
    reader = root.child(kinds[0].value)
    at = None if root.child("at").is_absent else root.child("at").instant()
    name = _name(kinds[0], reader, account)
    if problems:
        raise InvalidRequestError(problems)
    return ReplayTarget(kind=kinds[0], name=name, at=at)


def _name(kind: ReplayKind, reader: Reader, account: str) -> str:
    match kind:
        case ReplayKind.ARRIVAL:
            return reader.text(pattern=_ARRIVAL_ID, expected="an arrival's id: 64 hex digits")
        case ReplayKind.RUN:
            return reader.text(pattern=RUN_ID_PATTERN, expected="a run's id")
        case ReplayKind.DEAD_LETTER:
            return read_dead_letter_name(reader, account)
        case _:
            assert_never(kind)


def read_dead_letter_name(reader: Reader, account: str) -> str:
    """Return the path in the container `deadletter` that is here, or whose URL is; notes what can be none."""
    text = reader.text(min_length=1, max_length=2 * _MAX_NAME, expected="a path in the container deadletter")
    own = f"https://{account}.blob.core.windows.net/deadletter/"
    name = text.removeprefix(own)
    segments = name.split("/")
    is_tricky = _DECEPTIVE.search(name) or "://" in name or any(part in {"", ".", ".."} for part in segments)
    if text and (is_tricky or len(name) > _MAX_NAME or not name.endswith(".json")):
        reader.problems.append(Problem(reader.place, shown(text), f"<path>.json, or {own}<path>.json"))
    return name


def replay_to_row(replay: Replay) -> Row:
    """Return the replay as a flat row."""
    return pack_row(
        {
            "schema": 1,
            "id": replay.id,
            "target": replay.target,
            "actor": replay.actor,
            "requested_at": to_iso(replay.requested_at),
            "done_at": None if replay.done_at is None else to_iso(replay.done_at),
            "did": to_text(_kept(replay.did)),
            "did_not": to_text(_kept(replay.did_not)),
        }
    )


def _kept(account: tuple[str, ...]) -> list[str]:
    """Return so much of an account as a row can keep: a dead letter may hold thousands of messages."""
    kept: list[str] = []
    room = _MAX_ACCOUNT
    for line in account:
        room -= len(line)
        if room < 0:
            return [*kept, f"… and {len(account) - len(kept)} more"]
        kept.append(line)
    return kept


def replay_from_row(row: Mapping[str, object]) -> Replay:
    """Return the replay in a row; raises InvalidDocumentError."""
    fields = RowFields(row, "replay row")
    return fields.build(
        lambda: Replay(
            id=fields.text("id"),
            target=fields.text("target"),
            actor=fields.text("actor"),
            requested_at=fields.instant("requested_at"),
            done_at=fields.optional_instant("done_at"),
            did=tuple(item.text() for item in fields.document("did").items()),
            did_not=tuple(item.text() for item in fields.document("did_not").items()),
        )
    )
