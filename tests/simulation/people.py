"""Plays people and systems that ask for runs, and have them retried, repaired, cancelled, replayed and paused."""

import json
from collections.abc import Callable, Mapping
from typing import Final

from functions.core.access import Actor
from functions.core.model import Outcome, PipelineKey
from functions.core.turnstile import EVERY
from functions.services import backfill, cancel, pausing, repair, replay, requests, retry
from functions.services.plane import ControlPlane
from tests.simulation.actions import Action, Kind
from tests.simulation.shapes import ALPHA, BETA, TRAINING
from tests.simulation.workers import Process, Worker
from tests.support.control_plane import World

__all__ = ["SOMEONE", "People"]

SOMEONE: Final = Actor(name="someone")
_ABOUT_RUNS: Final = frozenset({Kind.RETRY, Kind.REPAIR, Kind.CANCEL})
_PAUSABLE: Final = (ALPHA, EVERY, TRAINING)

_BACKFILLS: Final = ({"yes": True}, {"yes": True, "again": True}, {"stop": True}, {"again": True, "stop": True})

Begin = Callable[[Process, str, Callable[[], object]], Worker]


class People:
    """Has someone ask for something; whoever does the work is a worker of a process."""

    def __init__(self, world: World, processes: list[Process], begin: Begin) -> None:
        self._world = world
        self._processes = processes
        self._begin = begin

    def ask(self, action: Action) -> str | None:
        """Begin what an action asks for; None if there is nothing that it could be about."""
        found = self._find(action)
        if found is None:
            return None
        what, act = found
        process = self._processes[action.a % len(self._processes)]
        label = f"{what} in process {process.number}"
        self._begin(process, label, lambda: act(process.plane))
        return f"{label}: someone asks"

    def _find(self, action: Action) -> tuple[str, Callable[[ControlPlane], object]] | None:
        if action.kind in _ABOUT_RUNS:
            return self._about_a_run(action)
        match action.kind:
            case Kind.REQUEST:
                pipeline = ALPHA if action.c % 2 else TRAINING
                key, body = f"key-{action.b % 3}", f'{{"pipeline": "{pipeline}"}}'.encode()
                return f"request {key} for {pipeline}", lambda plane: requests.request_run(
                    plane, body, idempotency_key=key
                )
            case Kind.REPLAY:
                return self._replay(action)
            case Kind.PAUSE:
                whose: PipelineKey = _PAUSABLE[action.b % len(_PAUSABLE)]
                return f"pause of {whose}", lambda plane: pausing.pause_pipeline(plane, whose, SOMEONE)
            case Kind.RESUME:
                whose = _PAUSABLE[action.b % len(_PAUSABLE)]
                return f"resumption of {whose}", lambda plane: pausing.resume_pipeline(plane, whose, SOMEONE)
            case Kind.BACKFILL:
                return self._backfill(action)
            case _:
                raise AssertionError(action)

    def _about_a_run(self, action: Action) -> tuple[str, Callable[[ControlPlane], object]] | None:
        runs = self._world.runs()
        if not runs:
            return None
        if action.c % 4:  # mostly one for which it means something
            is_open = action.kind is Kind.CANCEL
            runs = [
                run for run in runs if (run.outcome is None) == is_open and run.outcome is not Outcome.COMPLETED
            ] or runs
        run_id = runs[action.b % len(runs)].id
        act = {Kind.RETRY: retry.retry_run, Kind.REPAIR: repair.repair_run, Kind.CANCEL: cancel.cancel_run}[action.kind]
        return f"{action.kind.value} of {run_id}", lambda plane: act(plane, run_id, SOMEONE)

    def _backfill(self, action: Action) -> tuple[str, Callable[[ControlPlane], object]]:
        pipeline, variant = (ALPHA, BETA)[action.b % 2], _BACKFILLS[action.c % len(_BACKFILLS)]
        body = json.dumps({"pipeline": pipeline, **variant}).encode()
        what = ", ".join(variant)
        return f"backfill of {pipeline} ({what})", lambda plane: backfill.request_backfill(plane, body, SOMEONE)

    def _replay(self, action: Action) -> tuple[str, Callable[[ControlPlane], object]] | None:
        arrivals = [values for values, _ in self._world.tables.rows["arrivals"].values()]
        failed = [values for values in arrivals if values["state"] == "failed"] or arrivals
        letters = sorted(self._world.quarantine.documents)
        targets: Mapping[str, list[str]] = {
            "arrival": [str(values["id"]) for values in failed],
            "run": [run.id for run in self._world.runs()],
            "dead_letter": letters,
        }
        kind = ("arrival", "arrival", "run", "dead_letter")[action.c % 4]
        if not targets[kind]:
            return None
        name = targets[kind][action.b % len(targets[kind])]
        body = json.dumps({kind: name}).encode()
        return f"replay of {kind} {name}", lambda plane: replay.replay(plane, body, idempotency_key=None, actor=SOMEONE)
