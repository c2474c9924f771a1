"""Builds the world of a schedule and everyone in it, and executes actions in it."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from functions.core.errors import MlopsError
from functions.core.model import BlobVersion
from functions.core.rows import Row
from functions.services import reconcile as reconciling
from functions.services import schedule as scheduling
from functions.services import sweep as sweeping
from tests.simulation.actions import Action, Kind
from tests.simulation.host import QUEUES, Host
from tests.simulation.notebooks import Notebooks, SimulatedWorkspace
from tests.simulation.outside import Outside, name_of
from tests.simulation.people import People
from tests.simulation.shapes import TRAINING, Shape
from tests.simulation.witness import Witness
from tests.simulation.workers import Armed, Process, ProcessClock, Worker, Workers
from tests.support.control_plane import ACCOUNT, MODEL, World

__all__ = ["FAULTS_OF_A_CALL", "PLACES", "PROCESSES", "REFUSERS", "Simulation"]

PROCESSES: Final = 2
PLACES: Final = (
    "",
    "tables.",
    "tables.arrivals",
    "tables.pending",
    "tables.runs",
    "tables.open",
    "tables.marks",
    "workspace.",
    "workspace.submit",
    "workspace.status",
    "queue.",
    "publisher.",
    "manifests.",
    "host.",
)
REFUSERS: Final = ("workspace.", "tables.", "queue.", "publisher.", "manifests.")
FAULTS_OF_A_CALL: Final = (("die", "before"), ("die", "after"), ("lose", "before"), ("lose", "after"))
_OF_PEOPLE: Final = (
    Kind.REQUEST,
    Kind.RETRY,
    Kind.REPAIR,
    Kind.CANCEL,
    Kind.REPLAY,
    Kind.PAUSE,
    Kind.RESUME,
    Kind.BACKFILL,
)
_GRACE: Final = timedelta(seconds=60)  # how old a file must be before the sweep misses its event
_BEGIN: Final = datetime(2026, 3, 1, 11, 59, 30, tzinfo=UTC)
_TOLD: Final = ("state", "run_id", "attempt", "outcome", "reason", "token", "databricks_run_id", "published_at")


class Simulation:
    """One world and everyone in it."""

    def __init__(self, shape: Shape, *, is_calm: bool, story: list[str] | None = None) -> None:
        self.is_calm = is_calm
        self.story = story
        self.counts: Counter[str] = Counter()
        self.workers = Workers()
        self.world = world = World(pipelines=shape.pipelines, faults=self.workers, model_version=None)
        world.clock.advance(_BEGIN - world.clock.now())
        self.host = Host(world.clock, world.queue, self.workers)
        self.outside = Outside(world.clock, self.host, world.inputs)
        self.notebooks = Notebooks(world, self.host, self.outside, outputs_make_events=shape.outputs_make_events)
        self.witness = Witness(world, self.notebooks)
        world.workspace = SimulatedWorkspace(self.workers, self.witness.see_submission)
        if shape.has_model:
            world.workspace.models[MODEL, "champion"] = "7"
        history = "history/one.parquet"
        world.inputs.put(BlobVersion(account=ACCOUNT, container="input", path=history, etag="0x5", size_bytes=9))
        world.tables.on_write = self.witness.see_write
        self.workers.on_death = self._revive
        self.processes = [self._process(number) for number in range(PROCESSES)]
        self.people = People(world, self.processes, self.begin)
        if story is not None:
            self.workers.tell = self.tell
            self.witness.tell = self._tell_write
        self._acts: dict[Kind, Callable[[Action], str | None]] = {
            Kind.UPLOAD: self._upload,
            Kind.REDELIVER: self._redeliver,
            Kind.GARBAGE: self._garbage,
            Kind.PASS: self._pass,
            Kind.SKEW: self._skew,
            Kind.ALIAS: self._alias,
            Kind.SIGNAL: self._signal,
            Kind.DELIVER: self._deliver,
            Kind.TAKE: self._take,
            Kind.RECONCILE: self._reconcile,
            Kind.SWEEP: self._sweep,
            Kind.TIMER: self._timer,
            Kind.RUN: self._run,
            Kind.FINISH: self._finish,
            Kind.ARM: self._arm,
            Kind.DIE: self._die,
            Kind.THROTTLE: self._throttle,
            Kind.OUTAGE: self._outage,
            Kind.JOB: self._job,
            **dict.fromkeys(_OF_PEOPLE, self.people.ask),
        }

    def act(self, action: Action) -> None:
        """Let an action happen; one that finds nobody to happen to changes nothing."""
        what = self._acts[action.kind](action)
        if what is not None:
            self.counts[action.kind.value] += 1
            self.tell(what)

    def tell(self, text: str) -> None:
        """Add a line to the story, if one is written."""
        if self.story is not None:
            self.story.append(f"{self.world.clock.now():%d %H:%M:%S}  {text}")

    def begin(self, process: Process, label: str, work: Callable[[], object]) -> Worker:
        """Return a worker that does what nobody redelivers: its error is seen by whoever asked, or by none."""

        def tolerant() -> None:
            try:
                work()
            except MlopsError as error:
                self.tell(f"{label}: answered with {error!r}")

        return self.workers.start(process, label, tolerant)

    def _process(self, number: int) -> Process:
        process = Process(number, ProcessClock(self.world.clock), self.world.plane)
        self._give_memory(process)
        return process

    def _give_memory(self, process: Process) -> None:
        """Give a process a control plane as it is after its start: nothing remembered, not signed in."""
        workspace = copy.copy(self.world.workspace)
        process.plane = replace(self.world.make_plane(), clock=process.clock, submitter=workspace, models=workspace)

    def _revive(self, process: Process) -> None:
        self.counts["processes died"] += 1
        self._give_memory(process)

    def _tell_write(self, table: str, new: Row) -> None:
        name = new.get("path") or new.get("id") or ""
        facts = ", ".join(f"{key} {str(new[key])[:70]}" for key in _TOLD if key in new)
        entity = f" ({str(new['id'])[:12]})" if "path" in new else ""
        self.tell(f"    {table}: {name}{entity} is written: {facts}")

    def _upload(self, action: Action) -> str | None:
        sent = self.outside.upload(action.a, action.b, action.c)
        times = "vanishes for now" if action.c == 0 else f"is delivered {action.c} time(s)"
        return f"{name_of(sent)} is uploaded; its event {times}"

    def _redeliver(self, action: Action) -> str | None:
        if not self.outside.sent:
            return None
        sent = self.outside.sent[action.a % len(self.outside.sent)]
        self.outside.deliver(sent)
        return f"the event of {name_of(sent)} is delivered again"

    def _garbage(self, action: Action) -> str | None:
        queue = QUEUES[action.a % len(QUEUES)]
        self.outside.send_garbage(queue, action.b)
        return f"a message that nobody can read comes into queue {queue}"

    def _pass(self, action: Action) -> str | None:
        self.world.clock.advance(timedelta(seconds=action.a))
        return f"{action.a} s pass"

    def _skew(self, action: Action) -> str | None:
        process = self.processes[action.a % PROCESSES]
        process.clock.skew = timedelta(seconds=action.b)
        return f"the clock of process {process.number} jumps: it is wrong by {action.b} s now"

    def _alias(self, action: Action) -> str | None:
        version = str(1 + action.a % 9)
        self.world.workspace.models[MODEL, "champion"] = version
        return f"the model's alias moves to version {version}"

    def _signal(self, action: Action) -> str | None:
        signal = self.outside.send_signal(action.a, action.b, action.c)
        return f"a monitor sends {signal.event_id} ({signal.type.value}) about {signal.window_start:%d %H:%M}"

    def _deliver(self, action: Action) -> str | None:
        worker = self._taken(action)
        if worker is None:
            return None
        self.workers.go_on(worker)
        return f"{worker.label}: begins, and goes on as far as it gets"

    def _take(self, action: Action) -> str | None:
        worker = self._taken(action)
        return None if worker is None else f"{worker.label}: begins"

    def _taken(self, action: Action) -> Worker | None:
        visible = self.host.visible()
        if not visible:
            return None
        return self.host.take(visible[action.a % len(visible)], self.processes[action.b % PROCESSES])

    def _reconcile(self, action: Action) -> str | None:
        process = self.processes[action.a % PROCESSES]
        label = f"reconciler in process {process.number}"
        self.begin(process, label, lambda: reconciling.reconcile(process.plane))
        return f"{label}: begins a pass"

    def _sweep(self, action: Action) -> str | None:
        process = self.processes[action.a % PROCESSES]
        self.begin_sweep(process)
        return f"sweep in process {process.number}: begins a pass"

    def begin_sweep(self, process: Process) -> Worker:
        """Return a worker that is about to look for files that no event announced."""
        return self.begin(
            process, f"sweep in process {process.number}", lambda: sweeping.sweep(process.plane, grace=_GRACE)
        )

    def _timer(self, action: Action) -> str | None:
        process = self.processes[action.a % PROCESSES]
        label = f"timer in process {process.number}"
        self.begin(process, label, lambda: scheduling.fire_schedule(process.plane, TRAINING, "daily"))
        return f"{label}: fires"

    def _run(self, action: Action) -> str | None:
        if not self.workers.alive:
            return None
        worker = self.workers.alive[action.a % len(self.workers.alive)]
        self.workers.go_on(worker, 1 + action.b)
        return f"{worker.label}: goes on for {1 + action.b} stop(s)"

    def _finish(self, action: Action) -> str | None:
        if not self.workers.alive:
            return None
        worker = self.workers.alive[action.a % len(self.workers.alive)]
        self.workers.go_on(worker)
        return f"{worker.label}: goes on to its end"

    def _arm(self, action: Action) -> str | None:
        what, when = FAULTS_OF_A_CALL[action.a % len(FAULTS_OF_A_CALL)]
        place = PLACES[action.b % len(PLACES)]
        self.workers.armed.append(Armed(what, when, place, action.c))
        return (
            None
            if self.story is None
            else f"armed: {what} {when} the next call of {place or 'anything'} but {action.c}"
        )

    def _die(self, action: Action) -> str | None:
        process = self.processes[action.a % PROCESSES]
        if not any(worker.process is process for worker in self.workers.alive):
            return None
        self.workers.kill(process)
        return f"process {process.number} dies with all its workers"

    def _throttle(self, action: Action) -> str | None:
        place = REFUSERS[action.a % len(REFUSERS)]
        self.workers.throttles.append((place, 1 + action.b, float(action.c)))
        return f"the next {1 + action.b} calls of {place} are to be throttled, retry after {action.c} s"

    def _outage(self, action: Action) -> str | None:
        place = REFUSERS[action.a % len(REFUSERS)]
        self.workers.throttles.append((place, 1 + action.b, None))
        return f"the next {1 + action.b} calls of {place} are not to be answered"

    def _job(self, action: Action) -> str | None:
        runs = self.world.databricks_runs()
        if not runs:
            return None
        if action.c % 4:  # mostly one to which something can still happen
            runs = [run for run in runs if run.status.verdict.is_open] or runs
        run = runs[action.a % len(runs)]
        fate = self.notebooks.fate(action.b, run, is_calm=self.is_calm)
        self.notebooks.meet(run, fate)
        self.counts[f"Databricks run {fate.value}"] += 1
        return f"Databricks run {run.id} ({run.parameters['run_id']}, attempt {run.parameters['attempt']}) {fate.value}"
