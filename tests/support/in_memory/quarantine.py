"""Keeps messages that could not be understood."""

import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from functions.core.dead_letters import Replayed
from functions.core.errors import NotFoundError
from functions.ports import KeptLetter
from tests.support.in_memory.faults import Calls, Faults, NoFaults

__all__ = ["InMemoryQuarantine"]


class InMemoryQuarantine:
    """Implements `Quarantine`."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.calls = Calls(faults or NoFaults())
        self.documents: dict[str, Mapping[str, object]] = {}
        self.marks: dict[str, str] = {}

    def keep(self, name: str, document: Mapping[str, object]) -> str:
        with self.calls.effect("quarantine.keep"):
            self.documents.setdefault(name, document)
        return f"https://tidegatelocal.blob.core.windows.net/deadletter/{name}"

    def read(self, name: str) -> bytes:
        with self.calls.effect("quarantine.read"):
            found = self.documents.get(name)
        if found is None:
            raise NotFoundError(f"reading {name}", "BlobNotFound")
        return json.dumps(found).encode()

    def list(self, prefix: str, *, at_a_time: int) -> Iterator[KeptLetter]:
        names = sorted(name for name in self.documents if name.startswith(prefix))
        for page in itertools.batched(names, at_a_time, strict=False):
            with self.calls.effect("quarantine.list"):
                marks = [Replayed.from_mark(self.marks.get(name)) for name in page]
            for name, replayed in zip(page, marks, strict=True):
                yield KeptLetter(name=name, kept_at=datetime(2026, 3, 1, tzinfo=UTC), replayed=replayed)

    def mark_replayed(self, name: str, replayed: Replayed) -> None:
        with self.calls.effect("quarantine.mark_replayed"):
            earlier = Replayed.from_mark(self.marks.get(name))
            if name in self.documents and (earlier is None or earlier.at < replayed.at):
                self.marks[name] = replayed.to_mark()
