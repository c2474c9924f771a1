"""Carries what must survive an `exec` of the run's process: the leash, the JVM, and the cells already run.

The process becomes another one twice: the starter becomes the driver in the run's own Python environment, and the
driver becomes a new driver when the notebook restarts Python. Its id, its group and its JVM stay the same.
"""

import contextlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from .jvm import Jvm

__all__ = ["Handover", "Progress", "become_driver", "take_over", "write_log"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a notebook was when it restarted Python."""

    next_cell: int
    cells: list[dict[str, Any]]
    widgets: dict[str, dict[str, Any]]
    task_values: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What the next incarnation of the process needs."""

    request_file: Path
    scratch: Path
    cluster_python: Path  # of the environment below the run's own
    leash: int
    jvm: Jvm | None
    jvm_problem: str
    started_s: float  # the machine's monotonic clock, which an `exec` does not reset
    progress: Progress | None = field(default=None)

    def log_age(self, what: str) -> None:
        """Say in the driver's log how old the run is."""
        write_log(f"{what} {time.monotonic() - self.started_s:.2f} s after the start")


def write_log(line: str) -> None:
    """Add a line to the driver's log, which is the process's own standard error."""
    os.write(2, f"runner: {line}\n".encode())


def become_driver(handover: Handover, *, python: Path, environment: dict[str, str]) -> NoReturn:
    """Replace this process by the driver."""
    kept = [handover.leash, *([handover.jvm.stdin] if handover.jvm else [])]
    (handover.scratch / "handover.json").write_text(_to_json(handover), encoding="utf-8")
    for descriptor in kept:
        os.set_inheritable(descriptor, True)
    packages = str(Path(__file__).resolve().parents[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(  # noqa: S606 - the arguments are ours
        python,
        [str(python), "-P", "-m", f"{__package__}.driver", str(handover.scratch / "handover.json")],
        environment | {"PYTHONPATH": packages},
    )


def take_over(file: Path) -> Handover:
    """Return what the earlier incarnation left; its descriptors are this process's alone again."""
    raw = json.loads(file.read_text(encoding="utf-8"))
    jvm, progress = raw["jvm"], raw["progress"]
    handover = Handover(
        request_file=Path(raw["request_file"]),
        scratch=Path(raw["scratch"]),
        cluster_python=Path(raw["cluster_python"]),
        leash=raw["leash"],
        jvm=Jvm(pid=jvm["pid"], stdin=jvm["stdin"], connection_file=Path(jvm["connection_file"])) if jvm else None,
        jvm_problem=raw["jvm_problem"],
        started_s=raw["started_s"],
        progress=Progress(**progress) if progress else None,
    )
    kept = [handover.leash, *([handover.jvm.stdin] if handover.jvm else [])]
    for descriptor in kept:
        os.set_inheritable(descriptor, False)
        # A forked worker must not keep the pipes open when this process is gone.
        os.register_at_fork(after_in_child=lambda descriptor=descriptor: _close(descriptor))
    return handover


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _to_json(handover: Handover) -> str:
    return json.dumps(asdict(handover), default=str)
