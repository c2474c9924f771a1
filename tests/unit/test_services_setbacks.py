"""Tests that a run which waits for Databricks says why and until when, at next to no cost and never wrongly."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from functions.core.access import Actor
from functions.core.errors import (
    AccessRefusedError,
    LedgerThrottledError,
    LedgerUnavailableError,
    RunSubmissionError,
    ThrottledError,
    UnknownJobError,
    WorkspaceUnavailableError,
)
from functions.core.model import JobKey, RunState
from functions.services.pausing import pause_pipeline
from functions.services.reconcile import reconcile
from functions.services.requests import request_run
from functions.services.waiting import Waiting
from tests.support.control_plane import SCORING, World, make_blob, make_pipelines
from tests.support.in_memory import Faults

DAY = "2026-03-01T12:"


class Refusals(Faults):
    """Refuses calls of one kind for as long as there are errors."""

    def __init__(self, errors: Sequence[Exception], *, call: str = "workspace.submit") -> None:
        self.errors, self.call = list(errors), call

    def before(self, call: str) -> None:
        if call == self.call and self.errors:
            raise self.errors.pop(0)


def shown(world: World) -> dict[str, object] | None:
    (run,) = world.runs()
    return Waiting(world.plane).setback_of(run)


def try_again(world: World) -> None:
    """Let the time come at which the work item is visible, and have it done."""
    due = world.queue.next_visible_at()
    assert due is not None
    world.clock.advance(due - world.clock.now())
    world.work()


def run_writes(world: World) -> int:
    return world.tables.calls.counts["tables.runs.replace"]


@pytest.mark.parametrize(
    ("error", "told", "next_try"),
    [
        (ThrottledError("starting", 42.0), "starting: throttled for 42 s", "00:4[23]"),
        (RunSubmissionError("starting", "InternalError: 500"), "starting: InternalError: 500", "00:0[12]"),
        (AccessRefusedError("starting", "no CAN_MANAGE_RUN"), "starting: no CAN_MANAGE_RUN", "01:0[01]"),
        (UnknownJobError(JobKey("scoring"), []), "no job for 'scoring'; known jobs: none; deploy it first", "01:0[01]"),
    ],
)
def test_a_run_that_was_put_back_says_why_and_until_when(error: Exception, told: str, next_try: str) -> None:
    world = World(faults=Refusals([error]))

    world.deliver(make_blob())

    setback = shown(world)
    assert setback is not None
    assert (setback["last_error"], setback["tries"]) == (told, 1)
    assert setback["last_tried_at"] == "2026-03-01T12:00:00.000000Z"
    assert re.match(DAY + next_try, str(setback["next_try_by"]))


def test_a_run_that_was_sent_afterwards_says_nothing_of_it() -> None:
    world = World(faults=Refusals([ThrottledError("starting", 1.0)] * 2))
    world.deliver(make_blob())
    writes = run_writes(world)

    try_again(world)
    try_again(world)

    (run,) = world.runs()
    assert (run.state, run.setback, shown(world)) == (RunState.SUBMITTED, None, None)
    assert run_writes(world) == writes + 1  # the submission's own


def test_a_storm_of_refusals_costs_a_write_every_other_minute() -> None:
    """Ten tries within about five minutes; the promise of the next one holds at each moment between them."""
    world = World(faults=Refusals([WorkspaceUnavailableError("starting", "503")] * 10))
    world.deliver(make_blob())
    before = run_writes(world)

    for _ in range(9):
        setback, due = shown(world), world.queue.next_visible_at()
        assert setback is not None
        assert due is not None
        assert str(setback["next_try_by"]) >= due.isoformat()[:19]
        try_again(world)

    (run,) = world.runs()
    assert run.setback is not None
    assert run.setback.tries in {9, 10}
    assert run_writes(world) - before == 2


def test_another_reason_is_told_at_once() -> None:
    errors = [WorkspaceUnavailableError("starting", "503"), AccessRefusedError("starting", "no role")]
    world = World(faults=Refusals(errors))
    world.deliver(make_blob())

    try_again(world)

    setback = shown(world)
    assert setback is not None
    assert (setback["last_error"], setback["tries"]) == ("starting: no role", 2)


def test_the_reconciler_tells_it_too_and_counts_on() -> None:
    """After a dozen tries it is the only one who looks."""
    world = World(faults=Refusals([AccessRefusedError("starting", "no role")] * 3))
    world.deliver(make_blob())
    world.queue.messages.clear()

    for _ in range(2):
        world.clock.advance(timedelta(minutes=3))
        reconcile(world.plane)

    setback = shown(world)
    assert setback is not None
    assert (setback["tries"], setback["next_try_by"]) == (3, "2026-03-01T12:07:02.000000Z")


def test_a_decided_run_that_waits_for_its_turn_only_says_no_more_of_it() -> None:
    """The newer run could not have the older one cancelled at first; then its pipeline is paused."""
    faults = Refusals([WorkspaceUnavailableError("cancelling", "503")], call="workspace.cancel")
    world = World(pipelines=make_pipelines(policy="supersede"), faults=faults)
    world.inputs.put(make_blob("b.parquet"))
    world.deliver(make_blob("a.parquet"))
    world.clock.advance(timedelta(seconds=30))
    body = {"pipeline": SCORING, "files": [make_blob("b.parquet").url]}
    request_run(world.plane, json.dumps(body).encode(), idempotency_key="newer")

    world.work()
    refused = world.runs()[-1].setback
    pause_pipeline(world.plane, SCORING, Actor(name="ada"))
    try_again(world)
    waiting = world.runs()[-1]

    assert refused is not None
    assert refused.error == "cancelling: 503"
    assert (waiting.state, waiting.setback) == (RunState.DECIDED, None)


class _AndNoLedger(Refusals):
    """Refuses, after the first refusal, also every write of a run's row."""

    is_down = False

    def before(self, call: str) -> None:
        if call == "tables.runs.replace" and self.is_down:
            raise LedgerUnavailableError("writing", "500")
        self.is_down = self.is_down or (call == self.call and bool(self.errors))
        super().before(call)


def test_a_hint_that_cannot_be_written_neither_fails_nor_delays_the_run() -> None:
    faults = _AndNoLedger([ThrottledError("starting", 3.0)])
    world = World(faults=faults)

    world.deliver(make_blob())

    due = world.queue.next_visible_at()
    assert due is not None
    assert due - world.clock.now() <= timedelta(seconds=5)
    assert shown(world) is None
    faults.is_down = False
    try_again(world)
    assert {run.state for run in world.runs()} == {RunState.SUBMITTED}


def test_a_throttled_ledger_is_not_asked_once_more_for_the_hint() -> None:
    """A hint for each refusal would double what the ledger has asked to have less of."""
    world = World(faults=Refusals([LedgerThrottledError("writing", 1.0)] * 5, call="tables.runs.replace"))
    world.deliver(make_blob())
    calls = world.tables.calls.counts
    before = calls["tables.runs.replace"], calls["tables.runs.get"]

    try_again(world)
    try_again(world)

    assert (calls["tables.runs.replace"], calls["tables.runs.get"]) == (before[0] + 2, before[1] + 2)


class _SentMeanwhile(Refusals):
    """Has a rival send the run between the refusal and the hint."""

    world: World
    is_before_the_read = False

    def before(self, call: str) -> None:
        if self.is_before_the_read:
            self._send(call)
        super().before(call)

    def after(self, call: str) -> None:
        if not self.is_before_the_read:
            self._send(call)

    def _send(self, call: str) -> None:
        if call == "tables.runs.get" and not self.errors and self.call:
            self.call = ""
            self.world.clock.advance(timedelta(seconds=1))
            reconcile_as_a_rival(self.world)


def reconcile_as_a_rival(world: World) -> None:
    world.clock.advance(timedelta(minutes=1))
    world.plane = world.make_plane()
    reconcile(world.plane)


@pytest.mark.parametrize("is_before_the_read", [True, False])
def test_a_hint_never_overtakes_a_rival_who_has_sent_the_run(*, is_before_the_read: bool) -> None:
    faults = _SentMeanwhile([RunSubmissionError("starting", "timeout")])
    faults.is_before_the_read = is_before_the_read
    world = faults.world = World(faults=faults)

    world.deliver(make_blob())

    (run,) = world.runs()
    assert (run.state, run.setback) == (RunState.SUBMITTED, None)


def test_a_run_that_databricks_has_says_nothing_of_a_question_that_was_not_answered() -> None:
    """It was sent; what is asked about it afterwards is asked again by the reconciler."""
    world = World(faults=Refusals([WorkspaceUnavailableError("asking", "503")], call="workspace.status"))
    world.deliver(make_blob())
    (sent,) = world.databricks_runs()
    world.end_databricks_run(sent.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    writes = run_writes(world)

    reconcile(world.plane)

    assert (shown(world), run_writes(world)) == (None, writes)


def test_the_undisturbed_path_costs_what_it_did() -> None:
    """Writing the run with its token, and recording the submission; nothing is read or written for the hint."""
    world = World()

    world.deliver(make_blob())

    counts = Counter({name: count for name, count in world.tables.calls.counts.items() if ".runs." in name})
    assert counts == {"tables.runs.insert": 1, "tables.runs.replace": 1}
