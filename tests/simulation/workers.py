"""Runs workers as greenlets that stop at every effect, and makes their calls fail and their processes die there."""

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zlib import crc32

import greenlet  # type: ignore[import-untyped] # its stubs are another package

from functions.core.errors import (
    LedgerUnavailableError,
    MlopsError,
    PublicationError,
    QueueUnavailableError,
    RunSubmissionError,
    StorageUnavailableError,
    ThrottledError,
    WorkspaceUnavailableError,
)
from functions.services.plane import ControlPlane
from tests.simulation.violations import Violation
from tests.support.in_memory import Faults, FixedClock

__all__ = ["Armed", "HostFailedError", "Process", "ProcessClock", "Worker", "Workers"]

FOREVER = 10**9
_WORDS = {
    ("die", "before"): "its process dies before the call",
    ("die", "after"): "its process dies after the call, before it sees the answer",
    ("lose", "before"): "the call is lost",
    ("lose", "after"): "the call does its work, but its answer is lost",
}
_UNAVAILABLE: dict[str, type[MlopsError]] = {
    "tables": LedgerUnavailableError,
    "queue": QueueUnavailableError,
    "workspace": WorkspaceUnavailableError,
    "publisher": PublicationError,
    "manifests": StorageUnavailableError,
    "inputs": StorageUnavailableError,
    "quarantine": StorageUnavailableError,
}


class HostFailedError(Exception):
    """The Functions host could not write to its queue: the invocation counts as failed."""


class ProcessDiedError(BaseException):
    """The process is gone; nothing in it can catch this."""


class ProcessClock:
    """The clock of one machine, which may be wrong."""

    def __init__(self, true: FixedClock) -> None:
        self._true = true
        self.skew = timedelta(0)

    def now(self) -> datetime:
        """Return what this machine takes for the time."""
        return self._true.now() + self.skew


@dataclass
class Process:
    """One instance of the app: its clock and its memory, which it loses when it dies."""

    number: int
    clock: ProcessClock
    plane: ControlPlane


@dataclass
class Worker:
    """One invocation under way."""

    number: int
    label: str
    process: Process
    work: Callable[[], object]
    greenlet: "greenlet.greenlet" = field(init=False)
    stops_left: int = 0
    is_dying: bool = False


@dataclass
class Armed:
    """A fault that waits for its call."""

    what: str  # "die" or "lose"
    when: str  # "before" the effect or "after" it, when its answer is not yet seen
    place: str  # how the call's name begins
    skip: int  # so many such calls pass first


class Workers(Faults):
    """Gives the turn to one worker at a time; a worker stops before and after each of its effects."""

    def __init__(self) -> None:
        self.alive: list[Worker] = []
        self.armed: list[Armed] = []
        self.throttles: list[tuple[str, int, float | None]] = []  # place, calls left, retry-after; None: an outage
        self.hits: Counter[str] = Counter()
        self.stops = 0
        self.digest = 0
        self.violation: Violation | None = None
        self.tell: Callable[[str], None] | None = None  # of what went wrong, if there is someone to tell
        self.on_death: Callable[[Process], None] = lambda _: None
        self._hub = greenlet.getcurrent()
        self._running: Worker | None = None
        self._doomed: list[Process] = []
        self._count = 0

    def start(self, process: Process, label: str, work: Callable[[], object]) -> Worker:
        """Return a new worker that stands before its first step."""
        self._count += 1
        worker = Worker(self._count, label, process, work)
        worker.greenlet = greenlet.greenlet(lambda: self._live(worker))
        self.alive.append(worker)
        return worker

    def go_on(self, worker: Worker, stops: int = FOREVER) -> None:
        """Let a worker pass so many stops, or end."""
        worker.stops_left = stops
        self._running = worker
        worker.greenlet.switch()
        self._running = None
        if worker.greenlet.dead:
            self.alive.remove(worker)
        while self._doomed:
            self.kill(self._doomed.pop())
        if self.violation is not None:
            raise self.violation

    def kill(self, process: Process) -> None:
        """End a process with all its workers, wherever they stand."""
        for worker in [worker for worker in self.alive if worker.process is process]:
            worker.is_dying = True
            self._running = worker
            worker.greenlet.switch()
            self._running = None
            self.alive.remove(worker)
        self.on_death(process)

    def abandon(self) -> None:
        """End every worker without a trace, so that nothing of this schedule lives on."""
        for worker in list(self.alive):
            worker.is_dying = True
            worker.greenlet.switch()
        self.alive.clear()

    def before(self, call: str) -> None:
        """Stop before an effect; then it happens, unless something goes wrong."""
        worker = self._running
        if worker is None:
            return  # the world itself looks
        self._stop(worker, call)
        if self.throttles:
            self._refuse(call)
        if self.armed:
            self._spring(worker, "before", call)
        self.digest = crc32(call.encode(), self.digest)

    def after(self, call: str) -> None:
        """Stop after an effect, when its answer is not yet seen."""
        worker = self._running
        if worker is None:
            return
        if self.armed:
            self._spring(worker, "after", call)
        self._stop(worker, call)

    def _stop(self, worker: Worker, call: str) -> None:
        self.stops += 1
        if worker.stops_left <= 0 and not worker.is_dying:
            self._hub.switch()
        worker.stops_left -= 1
        if worker.is_dying:
            raise ProcessDiedError(call)

    def _spring(self, worker: Worker, when: str, call: str) -> None:
        for fault in self.armed:
            if fault.when != when or not call.startswith(fault.place):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            self.armed.remove(fault)
            self.hits[f"{fault.what} {when}"] += 1
            if self.tell is not None:
                self.tell(f"{worker.label}: {_WORDS[fault.what, when]} ({call})")
            if fault.what == "die":
                self._doomed.append(worker.process)
                worker.is_dying = True
                raise ProcessDiedError(call)
            raise _unavailable(call)

    def _refuse(self, call: str) -> None:
        for index, (place, left, after_s) in enumerate(self.throttles):
            if not call.startswith(place):
                continue
            if left <= 1:
                del self.throttles[index]
            else:
                self.throttles[index] = (place, left - 1, after_s)
            self.hits["outage" if after_s is None else "throttled"] += 1
            if self.tell is not None:
                self.tell(f"{call} is " + ("not answered" if after_s is None else f"throttled for {after_s:g} s"))
            if after_s is None or call.startswith("host."):
                raise _unavailable(call)
            raise ThrottledError(call, after_s or None)

    def _live(self, worker: Worker) -> None:
        try:
            worker.work()
        except ProcessDiedError:
            pass
        except Violation as violation:
            self.violation = self.violation or violation
        except Exception as error:  # noqa: BLE001 - whatever the code under test does not declare is a defect of it
            message = f"{worker.label} failed with {error!r}, which the code does not declare\n{traceback.format_exc()}"
            self.violation = self.violation or Violation("no_undeclared_error", worker.label, message)


def _unavailable(call: str) -> Exception:
    if call == "workspace.submit":
        return RunSubmissionError(call, "scripted")
    kind = _UNAVAILABLE.get(call.split(".", 1)[0])
    return HostFailedError(call) if kind is None else kind(call, "scripted")
