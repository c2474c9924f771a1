"""Tells the state of the supervisor and its services to other processes, by a file and a lock."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

__all__ = ["CloudState", "CloudStatus", "ServiceState", "ServiceStatus", "holder_of", "read_status", "write_status"]


class ServiceState(StrEnum):
    """Where a service stands."""

    WAITING = "waiting"  # for services that it needs
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"  # it died; the next start is due after a pause
    STOPPED = "stopped"
    FAILED = "failed"


class CloudState(StrEnum):
    """Where the local cloud stands as a whole."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"  # it could not be started; the message says why


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One service as `tidegate status` shows it."""

    state: ServiceState
    url: str
    log: str
    pid: int | None = None
    restarts: int = 0
    ready_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudStatus:
    """The local cloud as its supervisor last described it."""

    state: CloudState
    supervisor_pid: int
    started_at: str
    message: str = ""
    ready_after_s: float | None = None
    services: Mapping[str, ServiceStatus] = field(default_factory=dict[str, ServiceStatus])


def write_status(path: Path, status: CloudStatus) -> None:
    """Replace the status file."""
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(asdict(status), indent=1))
    partial.replace(path)


def read_status(path: Path) -> CloudStatus | None:
    """Return the last status, or None if there is none that can be read."""
    try:
        document = json.loads(path.read_text())
        services = {
            name: ServiceStatus(**{**row, "state": ServiceState(row["state"])})
            for name, row in document["services"].items()
        }
        return CloudStatus(**{**document, "state": CloudState(document["state"]), "services": services})
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def holder_of(lock_path: Path) -> int | None:
    """Return the pid of the process that holds the lock, or None if nobody does.

    The lock dies with its process: a stale pid in the file, even one that another program has by now, misleads nobody.
    """
    try:
        descriptor = os.open(lock_path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode().strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None
