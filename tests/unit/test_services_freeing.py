"""Tests that the good files of a batch go on without the bad ones: once, boundedly, through crashes and lateness."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from functions.core.access import Actor
from functions.core.completion import CompletionEvent
from functions.core.databricks_states import status_of
from functions.core.errors import IllegalTransitionError, QueueUnavailableError
from functions.core.ledger import Run
from functions.core.lineage import MAX_FILES, MAX_OTHERS, RefusedFile, RefusedRef, file_digest
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, BlobVersion, Outcome, RunState
from functions.core.run_transitions import begin_next_attempt
from functions.core.splitting import MOST_RELEASES
from functions.services.complete import complete
from functions.services.reconcile import reconcile
from functions.services.replay import replay
from functions.services.retry import retry_run
from functions.services.submission import advance_run
from tests.support.control_plane import World, make_blob, make_pipelines
from tests.support.fault_walk import (
    CrashAt,
    FailAt,
    LookBetween,
    ProcessDiedError,
    settle,
    survive,
    walk_faults,
    work,
)
from tests.support.in_memory import DatabricksRun, Faults

GOOD = [make_blob(f"good {number}=.parquet", etag=f"0x{number}") for number in range(2)]
BAD = make_blob("bad.parquet", etag="0xB")
WHY = "input_refused: 'bad.parquet' is no Parquet file"
OPERATOR = Actor(name="ann@contoso.com")


def make_world(*, policy: str = "parallel", readiness: str = 'kind = "none"', glob: str = "*.parquet") -> World:
    """Return a world whose scoring pipeline has a window, so that what comes together is one batch."""
    pipelines = make_pipelines(quiet=10, max_wait=30, policy=policy, readiness=readiness, glob=glob)
    return World(pipelines=pipelines)


def run_batch(world: World, blobs: Sequence[BlobVersion]) -> DatabricksRun:
    """Have these files arrive and return the Databricks run of their batch."""
    known = len(world.databricks_runs())
    for blob in blobs:
        world.deliver(blob)
    world.clock.advance(timedelta(seconds=31))
    world.work()
    (run,) = world.databricks_runs()[known:]
    return run


def refusal(world: World, run: DatabricksRun, blobs: Sequence[BlobVersion], *, reason: str = WHY) -> CompletionEvent:
    """Return what a notebook reports that can say which files are to blame."""
    named = tuple(RefusedFile(url=blob.url, etag=blob.etag, reason=reason) for blob in blobs[:MAX_FILES])
    others = tuple(file_digest(blob.url, blob.etag) for blob in blobs[MAX_FILES:][:MAX_OTHERS])
    refused = RefusedRef(file_count=len(blobs), files=named, others=others)
    return replace(world.completion_of(run, Outcome.FAILED), refused=refused, outputs=None)


def refuse(world: World, run: DatabricksRun, blobs: Sequence[BlobVersion], *, reports: bool = True) -> None:
    """Have the notebook fail because of these files."""
    if reports:
        complete(world.plane, refusal(world, run, blobs).to_json())
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")


def files_of(world: World, run: Run) -> set[str]:
    assert run.manifest is not None
    manifest = InputManifest.from_bytes(world.manifests.blobs[run.manifest.url])
    return {file.blob.path for file in manifest.files}


def settle_working(world: World) -> None:
    """Let time pass until every story is over; what runs completes."""
    for _ in range(10):
        reconcile(world.plane)
        world.work()
        for run in world.databricks_runs():
            if run.status.verdict.is_open:
                world.finish(run)
        world.clock.advance(timedelta(seconds=20))
    world.settle()


def test_the_good_files_of_a_batch_are_scored_without_the_bad_one() -> None:
    world = make_world()
    run = run_batch(world, [*GOOD, BAD])

    refuse(world, run, [BAD])
    settle_working(world)

    failed, completed = world.runs() if world.runs()[0].outcome is Outcome.FAILED else reversed(world.runs())
    assert (failed.outcome, completed.outcome) == (Outcome.FAILED, Outcome.COMPLETED)
    assert files_of(world, completed) == {blob.path for blob in GOOD}
    assert [world.arrival(blob).state for blob in GOOD] == [ArrivalState.SCORED] * 2
    assert [world.arrival(blob).run_id for blob in GOOD] == [completed.id] * 2
    bad = world.arrival(BAD)
    assert (bad.state, bad.run_id, bad.reason) == (ArrivalState.FAILED, failed.id, WHY)
    assert f"{failed.id}.1 failed because of other files" in [change.note for change in world.arrival(GOOD[0]).history]


def test_until_the_end_is_written_the_good_files_are_nobody_elses() -> None:
    """I2: a run that has reported is alive, so no other may have its files."""
    world = make_world()
    run = run_batch(world, [*GOOD, BAD])

    complete(world.plane, refusal(world, run, [BAD]).to_json())
    world.clock.advance(timedelta(seconds=60))
    reconcile(world.plane)
    world.work()

    assert world.runs()[0].state is RunState.REPORTED
    assert [world.arrival(blob).state for blob in [*GOOD, BAD]] == [ArrivalState.ASSIGNED] * 3


def test_a_failure_that_names_no_file_fails_them_all() -> None:
    """Nobody knows whether a smaller batch would fare better: a person replays it."""
    world = make_world()
    run = run_batch(world, [*GOOD, BAD])

    world.finish(run, outcome=Outcome.FAILED)
    settle_working(world)

    assert len(world.runs()) == 1
    assert {world.arrival(blob).state for blob in [*GOOD, BAD]} == {ArrivalState.FAILED}


def test_a_failure_that_blames_every_file_or_a_strangers_sets_none_free() -> None:
    """A report is a claim about the files of its own batch."""
    world = make_world()
    run = run_batch(world, GOOD)
    refuse(world, run, GOOD)
    other = run_batch(world, [BAD])
    refuse(world, other, [make_blob("elsewhere.parquet")])

    settle_working(world)

    assert len(world.runs()) == 2
    assert [world.arrival(blob).reason for blob in [*GOOD, BAD]] == [WHY, WHY, "the notebook raised"]


def test_more_bad_files_than_an_event_can_name_cost_one_run() -> None:
    """Each good file that is read again for the sake of another bad one is a run too many."""
    world, bad = make_world(), [make_blob(f"bad {number} #.parquet") for number in range(MAX_FILES + 5)]
    run = run_batch(world, [*GOOD, *bad])
    refuse(world, run, bad)

    settle_working(world)

    assert len(world.runs()) == 2
    assert [world.arrival(blob).state for blob in GOOD] == [ArrivalState.SCORED] * 2
    other = "refused, as one of 25 files of its batch; replay it to be told why"
    assert Counter(world.arrival(blob).reason for blob in bad) == {WHY: MAX_FILES, other: 5}


def test_a_batch_of_nothing_but_bad_files_costs_one_run_however_many_they_are() -> None:
    world, bad = make_world(), [make_blob(f"bad {number}.parquet") for number in range(MAX_FILES + MAX_OTHERS + 5)]
    run = run_batch(world, bad)
    refuse(world, run, bad)

    settle_working(world)

    assert len(world.runs()) == 1
    assert Counter(world.arrival(blob).state for blob in bad) == {ArrivalState.FAILED: len(bad)}


def test_a_report_that_comes_after_the_end_still_sets_the_good_files_free() -> None:
    """The reconciler may ask Databricks before the topic has delivered the notebook's event."""
    world = make_world()
    run = run_batch(world, [*GOOD, BAD])
    report = refusal(world, run, [BAD]).to_json()
    refuse(world, run, [BAD], reports=False)
    world.settle()
    assert {world.arrival(blob).state for blob in GOOD} == {ArrivalState.FAILED}

    for _ in range(2):
        complete(world.plane, report)
        settle_working(world)

    assert [world.arrival(blob).state for blob in GOOD] == [ArrivalState.SCORED] * 2
    assert world.arrival(BAD).reason == WHY
    assert len(world.runs()) == 2


@pytest.mark.parametrize(
    "call", ["workspace.status", "manifests.read", "tables.arrivals.transact", "tables.runs.replace"]
)
def test_a_report_that_comes_while_the_end_is_written_is_heard(call: str) -> None:
    """Who asked Databricks before it came judges anew: the report says which files are to blame."""

    class ReportAt(Faults):
        is_armed = False

        def before(self, called: str) -> None:
            if self.is_armed and called == call:
                self.is_armed = False
                complete(world.make_plane(), report)

    faults = ReportAt()
    world = World(pipelines=make_pipelines(quiet=10, max_wait=30), faults=faults)
    run = run_batch(world, [*GOOD, BAD])
    report = refusal(world, run, [BAD]).to_json()
    refuse(world, run, [BAD], reports=False)

    faults.is_armed = True
    world.clock.advance(timedelta(minutes=1))
    reconcile(world.plane)
    settle_working(world)

    assert not faults.is_armed
    assert [world.arrival(blob).state for blob in GOOD] == [ArrivalState.SCORED] * 2
    assert world.arrival(BAD).reason == WHY


def test_a_reconciler_between_the_writes_of_a_late_report_loses_no_file() -> None:
    """The run began long ago, so only its index row says that someone writes it; then its message is lost too."""
    faults = LookBetween()
    world = World(pipelines=make_pipelines(quiet=10, max_wait=30), faults=faults)
    run = run_batch(world, [*GOOD, BAD])
    report = refusal(world, run, [BAD]).to_json()
    world.clock.advance(timedelta(hours=1))
    refuse(world, run, [BAD], reports=False)
    world.settle()

    faults.arm(world)
    for _ in range(2):  # it is delivered again
        with suppress(QueueUnavailableError):
            complete(world.plane, report)
    world.clock.advance(timedelta(minutes=1))
    with suppress(QueueUnavailableError):
        reconcile(world.make_plane())

    batches = [files_of(world, known) for known in world.runs()]
    assert sorted(batches, key=len) == [{blob.path for blob in GOOD}, {blob.path for blob in (*GOOD, BAD)}]
    assert world.arrival(BAD).state is ArrivalState.FAILED


def test_a_consignment_fails_as_a_whole_and_says_so() -> None:
    world = make_world(readiness='kind = "count", count = 3', glob="**")
    blobs = [replace(blob, path=blob.path.replace("new/", "new/june/")) for blob in [*GOOD, BAD]]
    run = run_batch(world, blobs)

    refuse(world, run, blobs[-1:])
    settle_working(world)

    assert len(world.runs()) == 1
    assert [world.arrival(blob).reason for blob in blobs] == [
        *["its consignment failed as a whole: the notebook raised"] * 2,
        WHY,
    ]


def test_older_files_never_supersede_a_newer_run() -> None:
    """Where the newest run supersedes, what comes back as a new run would cancel a newer one."""
    world = make_world(policy="supersede")
    run = run_batch(world, [*GOOD, BAD])

    refuse(world, run, [BAD])
    settle_working(world)

    assert len(world.runs()) == 1
    assert {world.arrival(blob).state for blob in GOOD} == {ArrivalState.FAILED}


def test_a_file_is_set_free_only_so_often() -> None:
    """A producer who sends a bad file with every batch must not have a good one read for ever."""
    world = make_world()
    run = run_batch(world, [GOOD[0], make_blob("bad 0.parquet")])
    for number in range(MOST_RELEASES + 1):
        refuse(world, run, [make_blob(f"bad {number}.parquet")])
        world.deliver(make_blob(f"bad {number + 1}.parquet"))
        world.clock.advance(timedelta(seconds=2))
        known = len(world.databricks_runs())
        reconcile(world.plane)
        world.clock.advance(timedelta(seconds=31))
        reconcile(world.plane)
        world.work()
        (run,) = world.databricks_runs()[known:]

    good = world.arrival(GOOD[0])

    assert good.state is ArrivalState.FAILED
    assert good.reason == "6 batches that it was in failed because of other files; replay it once they are mended"


def test_many_files_are_set_free_in_steps_that_go_on() -> None:
    """One invocation must not take for ever; what is left is the run's debt, and it gets no other attempt before."""
    world, good = make_world(), [make_blob(f"{number}.parquet") for number in range(502)]
    run = run_batch(world, [*good, BAD])
    refuse(world, run, [BAD])
    entry = world.ledger.get_run(world.runs()[0].id)
    assert entry is not None

    advance_run(world.plane, entry)
    halfway = world.runs()[0]

    assert halfway.release_owed
    assert not halfway.is_story_over
    states = Counter(arrival.state for arrival in world.arrivals())
    assert states == {ArrivalState.HELD: 500, ArrivalState.ASSIGNED: 2, ArrivalState.FAILED: 1}
    with pytest.raises(IllegalTransitionError, match="ReleaseBeforeRetry"):
        begin_next_attempt(halfway, world.clock.now(), after=1, reason="someone asks")
    settle_working(world)
    assert Counter(arrival.state for arrival in world.arrivals()) == {ArrivalState.SCORED: 502, ArrivalState.FAILED: 1}


def test_another_attempt_of_a_run_that_was_split_does_not_take_its_files_back() -> None:
    """They are another run's by then: the attempt says so and ends."""
    world = make_world()
    run = run_batch(world, [*GOOD, BAD])
    refuse(world, run, [BAD])
    settle_working(world)
    split = next(run for run in world.runs() if run.outcome is Outcome.FAILED)

    retry_run(world.plane, split.id, OPERATOR)
    settle_working(world)

    again = next(run for run in world.runs() if run.id == split.id)
    assert (again.attempt, again.outcome, again.reason) == (
        2,
        Outcome.FAILED,
        "2 of its files went to other runs meanwhile",
    )
    assert [world.arrival(blob).state for blob in GOOD] == [ArrivalState.SCORED] * 2
    assert len(world.databricks_runs()) == 2


def live_through(world: World) -> tuple[tuple[ArrivalState, str | None], ...]:
    """Have a batch with a bad file arrive; runs that read it blame it, others complete. Return what became of each."""
    for blob in [*GOOD, BAD]:
        survive(world, partial(world.deliver, blob))
    world.clock.advance(timedelta(seconds=31))
    for _ in range(8):
        work(world)
        survive(world, lambda: reconcile(world.plane))
        for run in world.databricks_runs():
            if run.status.verdict.is_open:
                meet_its_fate(world, run)
        world.clock.advance(timedelta(seconds=20))
    settle(world)
    arrivals = [world.arrival(blob) for blob in [*GOOD, BAD]]
    return tuple((one.state, one.reason if one.state is ArrivalState.FAILED else None) for one in arrivals)


def meet_its_fate(world: World, run: DatabricksRun) -> None:
    manifest = InputManifest.from_bytes(world.manifests.blobs[run.parameters["manifest_url"]])
    if BAD.path not in {file.blob.path for file in manifest.files}:
        world.publish_scores(run)
        text = world.completion_of(run, Outcome.COMPLETED).to_json()
        survive(world, lambda: complete(world.plane, text))
        run.status = status_of("TERMINATED", "SUCCESS", "SUCCESS")
        return
    text = refusal(world, run, [BAD]).to_json()
    survive(world, lambda: complete(world.plane, text))
    run.status = status_of("TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
def test_wherever_a_worker_dies_the_good_files_go_on(fault: type[CrashAt] | type[FailAt]) -> None:
    """I6: dead or refused at any call from the file to the end, the story ends as without it."""
    pipelines = make_pipelines(quiet=10, max_wait=30)

    left, points = walk_faults(live_through, lambda faults: World(pipelines=pipelines, faults=faults), fault)

    assert left == ((ArrivalState.SCORED, None), (ArrivalState.SCORED, None), (ArrivalState.FAILED, WHY))
    assert points > 40


class DiesOnceFreed(Faults):
    """The process dies when the good files are held again, before the run's row says so."""

    world: World | None = None

    def before(self, call: str) -> None:
        world = self.world
        if world is None or call != "tables.runs.replace":
            return
        if all(world.arrival(blob).state is ArrivalState.HELD for blob in GOOD):
            self.world = None
            raise ProcessDiedError(call)


def test_a_batch_that_is_whole_again_while_its_run_owes_a_release_goes_again() -> None:
    """Progress: with the bad file replayed it is the same batch, so the same run, which owed nobody anything more."""
    faults = DiesOnceFreed()
    world = World(pipelines=make_pipelines(quiet=10, max_wait=30), faults=faults)
    run = run_batch(world, [*GOOD, BAD])
    refuse(world, run, [BAD])
    faults.world = world
    world.clock.advance(timedelta(seconds=2))
    with pytest.raises(ProcessDiedError):
        world.work()  # its message is invisible for as long as the host waits for its worker
    assert world.runs()[0].release_owed

    world.plane = world.make_plane()
    body = json.dumps({"arrival": world.arrival(BAD).id}).encode()
    replay(world.plane, body, idempotency_key=None, actor=OPERATOR)
    world.clock.advance(timedelta(seconds=31))
    world.work()
    settle_working(world)

    (ours,) = world.runs()
    assert (ours.attempt, ours.outcome) == (2, Outcome.COMPLETED)
    assert {world.arrival(blob).state for blob in [*GOOD, BAD]} == {ArrivalState.SCORED}
