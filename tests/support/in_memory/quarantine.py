"""Keeps messages that could not be understood."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from functions.core.errors import NotFoundError
from tests.support.in_memory.faults import Calls, Faults, NoFaults

__all__ = ["InMemoryQuarantine"]


class InMemoryQuarantine:
    """Implements `Quarantine`."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.calls = Calls(faults or NoFaults())
        self.documents: dict[str, Mapping[str, object]] = {}

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

    def list(self, prefix: str, *, limit: int) -> Sequence[tuple[str, datetime]]:
        with self.calls.effect("quarantine.list"):
            names = sorted(name for name in self.documents if name.startswith(prefix))
        return [(name, datetime(2026, 3, 1, tzinfo=UTC)) for name in names[:limit]]
