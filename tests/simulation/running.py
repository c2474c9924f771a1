"""Runs a schedule to its end: what it says, then a world without faults until it rests, then the checks."""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final
from zlib import crc32

from functions.core.errors import DeadLetterRefusedError
from functions.core.model import ArrivalState
from functions.core.tokens import arrival_id_of
from functions.services import pausing, replay
from functions.services import reconcile as reconciling
from functions.services.turnstile import read_turnstile
from tests.simulation.actions import Schedule
from tests.simulation.generating import without_faults
from tests.simulation.invariants import Rest, unfinished
from tests.simulation.people import SOMEONE
from tests.simulation.shapes import shape_of
from tests.simulation.simulation import Simulation
from tests.simulation.violations import Violation
from tests.simulation.workers import Process
from tests.support.control_plane import MODEL

__all__ = ["Result", "examine", "run_schedule"]

# Seconds between rounds; the long ones catch up with clocks that had jumped ahead, and with rows kept for a day.
_STEPS: Final = (20,) * 30 + (21_600, 20, 20, 20) * 12
_MESSAGES_A_ROUND: Final = 200
_OLD_ENOUGH: Final = timedelta(minutes=5)  # for the sweep
_TWINS: Final = 4  # every such calm schedule is told a second time


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a schedule went."""

    violation: Violation | None
    digest: int  # over every call in its order and what is left at the end
    counts: Counter[str]  # what happened, so that it can be seen that something did
    arrivals: dict[str, str]  # how each version of each file ended


def run_schedule(schedule: Schedule, *, story: list[str] | None = None) -> Result:
    """Return how the schedule goes; the same schedule always goes the same way."""
    simulation = Simulation(shape_of(schedule.shape), is_calm=schedule.is_calm, story=story)
    violation = None
    try:
        for action in schedule.actions:
            simulation.act(action)
        rest(simulation)
        Rest(simulation.world, simulation.outside, simulation.notebooks, is_calm=schedule.is_calm).check()
    except Violation as found:
        violation = found
        simulation.tell(f"VIOLATION of {found}")
    finally:
        simulation.workers.abandon()
    counts = simulation.counts + simulation.workers.hits
    counts["stops"] = simulation.workers.stops
    rows = simulation.world.tables.rows["arrivals"].values()
    arrivals = {f"{values['path']} {values['etag']}": str(values["state"]) for values, _ in rows}
    ends = sorted(arrivals.items()), [(run.id, run.outcome, run.attempt) for run in simulation.world.runs()]
    digest = crc32(repr(ends).encode(), simulation.workers.digest)
    return Result(violation=violation, digest=digest, counts=counts, arrivals=arrivals)


def examine(schedule: Schedule, *, story: list[str] | None = None) -> Result:
    """Return how the schedule goes; some calm ones are compared with the same story without faults."""
    result = run_schedule(schedule, story=story)
    if result.violation is not None or not schedule.is_calm or schedule.seed % _TWINS:
        return result
    twin = run_schedule(without_faults(schedule))
    violation = twin.violation or _difference(result.arrivals, twin.arrivals)
    if violation is not None and story is not None:
        story.append(f"VIOLATION of {violation}")
    return replace(result, violation=violation, counts=result.counts + Counter({"compared with a twin": 1}))


def _difference(found: dict[str, str], undisturbed: dict[str, str]) -> Violation | None:
    """Return where a story ended otherwise than without faults; which version of a file was quicker is chance."""
    name = "I6 a crash anywhere converges to the result without the crash"
    # A calm story lets nothing fail but what cannot be read, and the checks of each world hold it to that.
    ends = [{end.value, ArrivalState.SUPERSEDED.value} for end in (ArrivalState.SCORED, ArrivalState.FAILED)]
    for key in sorted(found.keys() | undisturbed.keys()):
        if key.startswith(("batch=", "alpha/batch=", "beta/batch=")):
            continue  # what the system wrote depends on which batches it made
        states = {found.get(key, "missing"), undisturbed.get(key, "missing")}
        if len(states) > 1 and states not in ends:
            message = f"{key} is {found.get(key, 'missing')}, and {undisturbed.get(key, 'missing')} without the faults"
            return Violation(name, key.split(" ")[0], message)
    return None


def rest(simulation: Simulation) -> None:
    """Stop all faults, make up for what had vanished, and let the world go on until nothing is left to do."""
    simulation.tell("from here on nothing goes wrong any more")
    world = simulation.world
    _stop_faults(simulation)
    _find_what_vanished(simulation)
    if (MODEL, "champion") not in world.workspace.models:
        world.workspace.models[MODEL, "champion"] = "7"
    replayed: set[str] = set()
    for number, step_s in enumerate(_STEPS):
        _round(simulation, simulation.processes[number % len(simulation.processes)])
        _replay_quarantined(simulation, replayed)
        if world.is_quiet() and not simulation.host.messages and not _is_anything_open(simulation):
            break
        world.clock.advance(timedelta(seconds=step_s))
    left = unfinished(world, len(simulation.host.messages))
    if left is not None:
        raise left


def _stop_faults(simulation: Simulation) -> None:
    """Let everyone answer, set the clocks right, have sleepers go on to their end and pauses lifted."""
    workers, plane = simulation.workers, simulation.processes[0].plane
    workers.armed.clear()
    workers.throttles.clear()
    for process in simulation.processes:
        process.clock.skew = timedelta(0)
    while workers.alive:
        workers.go_on(workers.alive[0])
    for pause in read_turnstile(plane).pauses:
        pausing.resume_pipeline(plane, pause.pipeline, SOMEONE)


def _find_what_vanished(simulation: Simulation) -> None:
    """Have the sweep look, and deliver what it cannot see: what was overwritten since, or is nothing for a route."""
    simulation.world.clock.advance(_OLD_ENOUGH)
    for process in simulation.processes:
        simulation.workers.go_on(simulation.begin_sweep(process))
    known = {values["id"] for values, _ in simulation.world.tables.rows["arrivals"].values()}
    for sent in simulation.outside.sent:
        if sent.deliveries == 0 and arrival_id_of(sent.blob) not in known:
            simulation.outside.deliver(sent)


def _round(simulation: Simulation, process: Process) -> None:
    """Handle every message that is visible, let every Databricks run end, look after the rest."""
    _drain(simulation, process)
    for run in simulation.world.databricks_runs():
        if run.status.verdict.is_open:
            fate = simulation.notebooks.usual_fate(run)
            simulation.tell(f"Databricks run {run.id} {fate.value}")
            simulation.notebooks.meet(run, fate)
    _drain(simulation, process)
    simulation.workers.go_on(simulation.begin(process, "reconciler", lambda: reconciling.reconcile(process.plane)))
    _drain(simulation, process)


def _drain(simulation: Simulation, process: Process) -> None:
    for _ in range(_MESSAGES_A_ROUND):
        visible = simulation.host.visible()
        if not visible:
            return
        worker = simulation.host.take(visible[0], process)
        simulation.tell(f"{worker.label}: begins")
        simulation.workers.go_on(worker)


def _is_anything_open(simulation: Simulation) -> bool:
    return any(run.status.verdict.is_open for run in simulation.world.databricks_runs())


def _replay_quarantined(simulation: Simulation, replayed: set[str]) -> None:
    """Do what an operator does with events that were given up though they can be read: replay each of them."""
    for name, document in sorted(simulation.world.quarantine.documents.items()):
        body = str(document["message"]).encode()
        if name not in replayed and body in simulation.outside.readable:
            replayed.add(name)
            simulation.tell(f"an operator has {name} replayed")
            plane, asked = simulation.processes[0].plane, json.dumps({"dead_letter": name}).encode()
            with suppress(DeadLetterRefusedError):
                replay.replay(plane, asked, idempotency_key=None, actor=SOMEONE)
