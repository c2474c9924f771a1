"""Reads what the test app of the Functions host's listeners recorded, and gives it its settings."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.azurite import Azurite

__all__ = ["LISTENERS_APP", "Records", "listener_settings"]

LISTENERS_APP = Path(__file__).parents[1] / "integration/apps/functions_host_listeners"


@dataclass(frozen=True, slots=True)
class Records:
    """The lines that the app's functions wrote, in order."""

    file: Path

    def all(self, function: str, **facts: object) -> list[dict[str, Any]]:
        """Return the records of a function that have these facts."""
        if not self.file.exists():
            return []
        entries = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]
        wanted = {"function": function, **facts}
        return [entry for entry in entries if wanted.items() <= entry.items()]


def listener_settings(azurite: Azurite, records: Records, queue: str, **more: str) -> dict[str, str]:
    """Return the app's settings; no timer but `at_start` fires unless told otherwise."""
    return {
        "AzureWebJobsStorage": azurite.connection_string,
        "AzureFunctionsWebHost__hostid": queue,
        "WORK_QUEUE": queue,
        "RECORD_FILE": str(records.file),
        "TICK": "0 0 0 1 1 *",
        "NIGHTLY": "0 0 3 1 1 *",
        **more,
    }
