"""Reads the columns of one ledger row, collecting every mistake."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from functions.core.completion import CompletionEvent
from functions.core.errors import InvalidDocumentError, Problem
from functions.core.ledger import Attempt, Change
from functions.core.manifest import ManifestPointer
from functions.core.model import DatabricksRunId, IdempotencyToken, Outcome
from functions.core.reading import Reader, to_iso
from functions.core.rows import unpack_row
from functions.core.setback import Setback
from functions.core.stalled import StalledEvent

__all__ = ["READABLE_VERSIONS", "SCHEMA_VERSION", "RowFields", "attempts_to_text", "history_to_text", "to_text"]

SCHEMA_VERSION = 2  # of both tables' rows; a row of a later version is refused rather than misread
READABLE_VERSIONS = (1, 2)  # a row of the release before is read as it is, and written as this release does


def to_text(value: object) -> str:
    """Return a value as compact JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def history_to_text(history: tuple[Change, ...]) -> str:
    """Return an entry's history as one column."""
    return to_text([[change.state, to_iso(change.at), change.note] for change in history])


def attempts_to_text(attempts: tuple[Attempt, ...]) -> str:
    """Return the attempts that are over as one column."""
    return to_text(
        [
            {
                "number": attempt.number,
                "token": attempt.token,
                "databricks_run_id": attempt.databricks_run_id,
                "outcome": attempt.outcome,
                "reason": attempt.reason,
                "ended_at": to_iso(attempt.ended_at),
            }
            for attempt in attempts
        ]
    )


class RowFields:
    """The columns of one row, read by name and type."""

    def __init__(self, row: Mapping[str, object], what: str) -> None:
        self.problems: list[Problem] = []
        self._root = Reader(unpack_row(row), what, self.problems)
        schema = self.reader("schema")
        if schema.value not in READABLE_VERSIONS or isinstance(schema.value, bool):
            schema.refuse(f"one of {', '.join(map(str, READABLE_VERSIONS))}")

    def build[T](self, make: Callable[[], T]) -> T:
        """Return what `make` makes of the columns; raises InvalidDocumentError if any of them is wrong."""
        try:
            value = make()
        except ValueError as error:
            # A placeholder of a wrong column, or columns that contradict each other, made no valid entry.
            found = self.problems or [Problem(self._root.place, "contradicting columns", f"an entry, but {error}")]
            raise InvalidDocumentError(found) from error
        if self.problems:
            raise InvalidDocumentError(self.problems)
        return value

    def reader(self, name: str) -> Reader:
        """Return the reader of one column."""
        return self._root.child(name)

    def text(self, name: str) -> str:
        """Return a text column."""
        return self.reader(name).text()

    def optional_text(self, name: str) -> str | None:
        """Return a text column, or None if the row lacks it."""
        reader = self.reader(name)
        return None if reader.is_absent else reader.text()

    def instant(self, name: str) -> datetime:
        """Return a time column."""
        return self.reader(name).instant()

    def optional_instant(self, name: str) -> datetime | None:
        """Return a time column, or None if the row lacks it."""
        reader = self.reader(name)
        return None if reader.is_absent else reader.instant()

    def large_integer(self, name: str) -> int:
        """Return a column that keeps a number of up to 64 bits as text."""
        return int(self.reader(name).text(pattern="[0-9]{1,19}", expected="digits") or 0)

    def document(self, name: str) -> Reader:
        """Return the reader of a column that holds JSON."""
        reader = self.reader(name)
        try:
            return Reader(json.loads(reader.text()), reader.place, self.problems)
        except (ValueError, RecursionError):
            reader.refuse("JSON")
            return Reader({}, reader.place, self.problems)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a column that holds a list of texts; none if the row lacks it."""
        if self.reader(name).is_absent:
            return ()
        return tuple(item.text() for item in self.document(name).items())

    def optional_outcome(self, name: str) -> Outcome | None:
        """Return an outcome, or None if the row lacks it."""
        reader = self.reader(name)
        return None if reader.is_absent else reader.one_of(Outcome)

    def manifest_pointer(self) -> ManifestPointer | None:
        """Return where the run's manifest is, or None if it has none yet."""
        url, sha256 = self.optional_text("manifest_url"), self.optional_text("manifest_sha256")
        return None if url is None and sha256 is None else ManifestPointer(url=url or "", sha256=sha256 or "")

    def completion(self, name: str) -> CompletionEvent | None:
        """Return the completion event in a column, or None."""
        text = self.optional_text(name)
        return None if text is None else CompletionEvent.from_json(text)

    def stall(self) -> StalledEvent | None:
        """Return the stalled event in the outbox, or None."""
        text = self.optional_text("stall")
        return None if text is None else StalledEvent.from_json(text)

    def setback(self) -> Setback | None:
        """Return why the run was put back lately, or None."""
        text = self.optional_text("setback")
        return None if text is None else Setback.from_text(text)

    def history(self, name: str) -> tuple[Change, ...]:
        """Return an entry's history."""
        return tuple(_read_change(item) for item in self.document(name).items())

    def attempts(self, name: str) -> tuple[Attempt, ...]:
        """Return the attempts that are over."""
        return tuple(_read_attempt(item) for item in self.document(name).items())


def _read_change(item: Reader) -> Change:
    parts = item.items(min_items=3, max_items=3)
    if not parts:
        return Change(state="", at=datetime.fromtimestamp(0, UTC))
    state, at, note = parts
    return Change(state=state.text(), at=at.instant(), note=note.text())


def _read_attempt(item: Reader) -> Attempt:
    item.mapping(required=("number", "token", "databricks_run_id", "outcome", "reason", "ended_at"))
    token = item.child("token").nullable_text()
    databricks_run_id = item.child("databricks_run_id").nullable_integer(minimum=0)
    outcome = item.child("outcome")
    return Attempt(
        number=item.child("number").integer(minimum=1),
        token=None if token is None else IdempotencyToken(token),
        databricks_run_id=None if databricks_run_id is None else DatabricksRunId(databricks_run_id),
        outcome=None if outcome.value is None else outcome.one_of(Outcome),
        reason=item.child("reason").nullable_text(),
        ended_at=item.child("ended_at").instant(),
    )
