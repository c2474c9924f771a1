"""Keeps messages that could not be understood."""

import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from functions.core.dead_letters import Replayed
from functions.core.dismissals import Dismissed
from functions.core.errors import NotFoundError, StorageUnavailableError
from functions.ports import Entry, KeptLetter
from tests.support.in_memory.faults import Calls, Faults, NoFaults

__all__ = ["InMemoryQuarantine"]


class InMemoryQuarantine:
    """Implements `Quarantine`."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.calls = Calls(faults or NoFaults())
        self.documents: dict[str, Mapping[str, object]] = {}
        self.marks: dict[str, str] = {}
        self.dismissals: dict[str, str] = {}
        self.changed_at: dict[str, datetime] = {}

    def keep(self, name: str, document: Mapping[str, object]) -> str:
        with self.calls.effect("quarantine.keep"):
            self.documents.setdefault(name, document)
        return f"https://tidegatelocal.blob.core.windows.net/deadletter/{name}"

    def put(self, name: str, document: object, *, at: datetime) -> None:
        """Put something there as a person or Event Grid does: over whatever was there, and without a mark."""
        self.documents[name] = document  # type: ignore[assignment] # anything can lie there
        self.changed_at[name] = at
        self.marks.pop(name, None)
        self.dismissals.pop(name, None)

    def read(self, name: str) -> Entry[bytes]:
        with self.calls.effect("quarantine.read"):
            found = self.documents.get(name)
        if found is None:
            raise NotFoundError(f"reading {name}", "BlobNotFound")
        return Entry(value=json.dumps(found).encode(), version=self._version_of(name))

    def list(self, prefix: str, *, at_a_time: int) -> Iterator[KeptLetter]:
        names = sorted(name for name in self.documents if name.startswith(prefix))
        for page in itertools.batched(names, at_a_time, strict=False):
            with self.calls.effect("quarantine.list"):
                letters = [self._letter_of(name) for name in page]
            yield from letters

    def mark_replayed(self, name: str, replayed: Replayed, *, version: str | None) -> None:
        with self.calls.effect("quarantine.mark_replayed"):
            earlier = Replayed.from_mark(self.marks.get(name))
            is_newer = version is None and earlier is None and self.changed_at.get(name, replayed.at) > replayed.at
            if name not in self.documents or is_newer or (earlier is not None and earlier.at >= replayed.at):
                return
            if version not in {None, self._version_of(name)}:
                raise StorageUnavailableError(f"marking {name}", "it changed since it was read")
            self.marks[name] = replayed.to_mark()

    def dismiss(self, name: str, dismissed: Dismissed, *, version: str) -> KeptLetter:
        with self.calls.effect("quarantine.dismiss"):
            if name not in self.documents:
                raise NotFoundError(f"dismissing {name}", "BlobNotFound")
            before = self._letter_of(name)
            if before.is_waiting:
                if version != self._version_of(name):
                    raise StorageUnavailableError(f"dismissing {name}", "it changed since it was read")
                self.dismissals[name] = dismissed.to_mark()
        return before

    def _letter_of(self, name: str) -> KeptLetter:
        return KeptLetter(
            name=name,
            kept_at=datetime(2026, 3, 1, tzinfo=UTC),
            replayed=Replayed.from_mark(self.marks.get(name)),
            dismissed=Dismissed.from_mark(self.dismissals.get(name)),
        )

    def _version_of(self, name: str) -> str:
        return f"{json.dumps(self.documents[name])} {self.marks.get(name)} {self.dismissals.get(name)}"
