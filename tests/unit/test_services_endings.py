"""Tests how runs end: only what is proven is success, and everything is announced once."""

from dataclasses import replace
from datetime import timedelta

import pytest
from azure.core.exceptions import HttpResponseError

from functions.core.access import Actor
from functions.core.errors import (
    AccessRefusedError,
    AmbiguousJobError,
    InvalidDocumentError,
    MlopsError,
    RunRejectedError,
    RunSubmissionError,
    UnknownJobError,
    UnknownRunError,
)
from functions.core.ledger import Run
from functions.core.model import ArrivalState, DatabricksRunId, JobKey, Outcome, RunId, RunState
from functions.services.cancel import cancel_run
from functions.services.complete import complete
from functions.services.reconcile import reconcile
from functions.services.retry import retry_run
from tests.support.control_plane import World, make_blob, make_pipelines
from tests.support.fault_walk import DieAt, ProcessDiedError
from tests.support.in_memory import DatabricksRun, Faults

OPERATOR = Actor(name="ann@contoso.com")


def submitted(world: World) -> DatabricksRun:
    """Return the workspace's run of one file that arrived."""
    world.deliver(make_blob())
    (run,) = world.databricks_runs()
    return run


def only_run(world: World) -> Run:
    (run,) = world.runs()
    return run


def test_a_report_is_a_claim_until_databricks_confirms_it() -> None:
    world = World()
    run = submitted(world)
    world.publish_scores(run)

    world.report(run, Outcome.COMPLETED)
    world.clock.advance(timedelta(seconds=2))
    world.work()

    assert only_run(world).state is RunState.REPORTED
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED


@pytest.mark.parametrize("call", ["tables.arrivals.replace", "tables.runs.replace"])
@pytest.mark.parametrize("is_true", [True, False])
def test_a_report_that_comes_while_a_success_is_written_does_not_undo_it(call: str, *, is_true: bool) -> None:
    """I6: an arrival that is scored stays so, so its run must not be judged otherwise by what comes next."""

    class Between(Faults):
        report = ""

        def after(self, of: str) -> None:
            if of == call and self.report:
                report, self.report = self.report, ""
                complete(world.make_plane(), report)

    between = Between()
    world = World(faults=between)
    run = submitted(world)
    world.publish_scores(run)
    event = world.completion_of(run, Outcome.COMPLETED)
    assert event.outputs is not None
    outputs = event.outputs if is_true else replace(event.outputs, rows_scored=event.outputs.rows_scored - 1)
    world.end_databricks_run(run.id, "TERMINATED", "SUCCESS", "SUCCESS")

    between.report = replace(event, outputs=outputs, metrics={"rmse": 1.5}).to_json()
    for _ in range(4):
        world.clock.advance(timedelta(minutes=2))
        reconcile(world.plane)
        world.work()

    ended = only_run(world)
    assert between.report == ""
    assert (ended.state, ended.outcome) == (RunState.ENDED, Outcome.COMPLETED)
    assert world.arrival(make_blob()).state is ArrivalState.SCORED
    assert {published.id for published in world.publisher.published} <= {f"{ended.id}.1.completed"}


@pytest.mark.parametrize("reports", [True, False])
def test_a_success_that_arrivals_were_told_of_stays_one_when_its_scores_vanish(*, reports: bool) -> None:
    """I6: who comes after a worker that died between an arrival and the run ends the run as that one began to."""
    died = DieAt("tables.arrivals.replace", is_after=True, is_armed=False)
    world = World(faults=died)
    run = submitted(world)
    world.finish(run, reports=reports)
    died.is_armed = True
    with pytest.raises(ProcessDiedError):
        reconcile(world.plane)
    assert (only_run(world).completion is not None) is reports, "that of an open run is on the topic already"

    del world.manifests.blobs[f"{run.parameters['output_url']}/_manifest.json"]
    del world.workspace.runs[run.id]
    world.settle()

    ended = only_run(world)
    assert (ended.state, ended.outcome) == (RunState.ENDED, Outcome.COMPLETED)
    assert world.arrival(make_blob()).state is ArrivalState.SCORED
    told = [event.id for event in world.publisher.published]
    assert told == ([] if reports else [f"{ended.id}.1.completed"])
    assert ended.published_at is not None


def test_no_attempt_follows_one_that_a_rival_has_proven_meanwhile() -> None:
    """I2, I6: its Databricks run was repaired in the workspace while the worker slept that saw it fail."""

    class Repaired(Faults):
        step = ""

        def after(self, call: str) -> None:
            if (self.step, call) == ("sleep", "manifests.read"):
                self.step = "die"
                world.publish_scores(run)
                world.end_databricks_run(run.id, "TERMINATED", "SUCCESS", "SUCCESS")
                with pytest.raises(ProcessDiedError):
                    reconcile(world.make_plane())
            elif (self.step, call) == ("die", "tables.arrivals.replace"):
                self.step = ""
                raise ProcessDiedError(call)

    repaired = Repaired()
    world = World(faults=repaired)
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "CLUSTER_ERROR")

    repaired.step = "sleep"
    reconcile(world.plane)
    world.settle()

    ended = only_run(world)
    assert (ended.attempt, ended.outcome) == (1, Outcome.COMPLETED)
    assert world.arrival(make_blob()).state is ArrivalState.SCORED


def test_the_index_row_of_a_run_whose_worker_died_behind_its_end_is_removed_at_once() -> None:
    """Until then each pass reads the run's row again."""
    world = World(faults=DieAt("tables.open.delete"))
    world.finish(submitted(world))
    world.clock.advance(timedelta(seconds=30))  # the confirmation is asked for a little later
    with pytest.raises(ProcessDiedError):
        world.work()
    assert only_run(world).is_story_over
    assert world.tables.rows["open"]

    reconcile(world.plane)

    assert not world.tables.rows["open"]


def test_a_confirmed_report_ends_the_run_with_the_notebooks_own_event() -> None:
    """What the notebook published is not published again."""
    world = World()
    run = submitted(world)

    world.finish(run)
    world.settle()

    ended = only_run(world)
    assert (ended.state, ended.outcome) == (RunState.ENDED, Outcome.COMPLETED)
    assert ended.completion is not None
    assert ended.completion.announced_by == "notebook"
    assert world.publisher.published == []
    assert world.arrival(make_blob()).state is ArrivalState.SCORED


def test_success_without_a_report_is_announced_by_us_with_its_proof() -> None:
    world = World()
    run = submitted(world)

    world.finish(run, reports=False)
    world.settle()

    (event,) = world.publisher.published
    assert (event.outcome, event.announced_by) == (Outcome.COMPLETED, "control_plane")
    assert event.outputs is not None
    assert event.outputs.rows_scored == 9
    assert event.id == f"{only_run(world).id}.1.completed"


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"rows_scored": 5}, "rows do not add up"),
        ({"null_scores": 1}, "null or NaN"),
        ({"batch_id": "f" * 16}, "batch_id"),
        ({"score_column": "other"}, "score_column"),
    ],
)
def test_scores_that_do_not_add_up_are_no_success(changes: dict[str, object], doubt: str) -> None:
    """I4: Databricks says success and the notebook too, but the manifest does not prove it."""
    world = World()
    run = submitted(world)
    world.publish_scores(run, **changes)

    world.report(run, Outcome.COMPLETED)
    world.finish(run, reports=False)
    world.settle()

    ended = only_run(world)
    assert ended.outcome is Outcome.FAILED
    assert doubt in (ended.reason or "")
    assert world.arrival(make_blob()).state is ArrivalState.FAILED
    assert [event.outcome for event in world.publisher.published] == [Outcome.FAILED]


def test_success_without_scores_is_no_success() -> None:
    world = World()
    run = submitted(world)

    world.end_databricks_run(run.id, "TERMINATED", "SUCCESS", "SUCCESS")
    world.settle()

    assert only_run(world).outcome is Outcome.FAILED
    assert "there is no manifest" in (only_run(world).reason or "")


def test_a_broken_scores_manifest_is_no_success() -> None:
    world = World()
    run = submitted(world)
    world.manifests.blobs[f"{run.parameters['output_url']}/_manifest.json"] = b"{"

    world.end_databricks_run(run.id, "TERMINATED", "SUCCESS", "SUCCESS")
    world.settle()

    assert only_run(world).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        (("TERMINATED", "FAILED", "RUN_EXECUTION_ERROR"), Outcome.FAILED),
        (("TERMINATED", "CANCELED", "USER_CANCELED"), Outcome.CANCELLED),
        (("TERMINATED", "TIMEDOUT", "CANCELED"), Outcome.TIMED_OUT),
        (("TERMINATED", "EXCLUDED", "DISABLED"), Outcome.SKIPPED),
        (("TERMINATED", "NOBODY_KNOWS", ""), Outcome.FAILED),
        (("LIMBO", "", ""), Outcome.FAILED),
    ],
)
def test_every_silent_end_is_announced_once(states: tuple[str, str, str], outcome: Outcome) -> None:
    """R54, I7: killed, cancelled by hand, never started or unknown: announced by the next look of the reconciler."""
    world = World()
    run = submitted(world)

    world.end_databricks_run(run.id, *states)
    reconcile(world.plane)
    reconcile(world.plane)

    assert [event.outcome for event in world.publisher.published] == [outcome]
    assert only_run(world).is_story_over
    assert world.arrival(make_blob()).state is ArrivalState.FAILED


def test_a_skipped_run_goes_again_with_the_next_attempt() -> None:
    """R25: nothing is announced, and the token is a new one."""
    world = World()
    run = submitted(world)

    world.end_databricks_run(run.id, "TERMINATED", "MAXIMUM_CONCURRENT_RUNS_REACHED", "MAX_CONCURRENT_RUNS_EXCEEDED")
    reconcile(world.plane)
    world.clock.advance(timedelta(seconds=30))
    world.work()

    first, second = world.databricks_runs()
    assert (first.parameters["attempt"], second.parameters["attempt"]) == ("1", "2")
    assert first.token != second.token
    assert world.publisher.published == []
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED


def test_attempts_are_bounded() -> None:
    """R08: a cluster that is lost time and again ends as failed after max_attempts."""
    world = World()
    world.deliver(make_blob())

    for _ in range(20):
        for run in world.databricks_runs():
            world.end_databricks_run(run.id, "INTERNAL_ERROR", "FAILED", "CLOUD_FAILURE")
        reconcile(world.plane)
        world.clock.advance(timedelta(seconds=20))
        world.work()

    assert len(world.databricks_runs()) == 3
    assert (only_run(world).outcome, only_run(world).attempt) == (Outcome.FAILED, 3)
    assert [event.id for event in world.publisher.published] == [f"{only_run(world).id}.3.failed"]


def test_a_late_report_of_an_earlier_attempt_changes_nothing() -> None:
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "INTERNAL_ERROR", "FAILED", "CLUSTER_ERROR")
    reconcile(world.plane)

    what = complete(world.plane, world.completion_of(run, Outcome.FAILED).to_json())

    assert "RejectForeignCompletion" in what
    assert only_run(world).attempt == 2


def test_our_own_announcement_comes_back_and_changes_nothing() -> None:
    """The completions queue gets every event of the topic, ours too."""
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    reconcile(world.plane)
    before = only_run(world)

    complete(world.plane, world.publisher.published[0].to_json())

    assert only_run(world) == before


def test_an_event_of_another_environment_is_left_alone() -> None:
    world = World()
    run = submitted(world)

    what = complete(world.plane, replace(world.completion_of(run, Outcome.FAILED), environment="prod").to_json())

    assert "not this one" in what
    assert only_run(world).state is RunState.SUBMITTED


def test_an_event_of_an_unknown_run_is_refused() -> None:
    world = World()
    run = submitted(world)
    event = world.completion_of(run, Outcome.FAILED)

    with pytest.raises(UnknownRunError):
        complete(
            world.plane, replace(event, run_id=RunId("flight_delay_scoring-20200101T000000Z-0123456789ab")).to_json()
        )
    with pytest.raises(InvalidDocumentError):
        complete(world.plane, b"no event")


def test_a_run_that_databricks_forgot_has_failed() -> None:
    world = World()
    run = submitted(world)

    del world.workspace.runs[run.id]
    reconcile(world.plane)

    assert only_run(world).outcome is Outcome.FAILED
    assert "does not know the run" in (only_run(world).reason or "")


@pytest.mark.parametrize("is_to_be_cancelled", [False, True])
def test_a_run_that_reported_without_its_id_ends_when_databricks_refuses_its_token(*, is_to_be_cancelled: bool) -> None:
    """Its answer was lost, and the run was deleted since: nothing else will tell which run it was."""

    class Refuse(Faults):
        is_armed = False

        def before(self, call: str) -> None:
            if self.is_armed and call == "workspace.submit":
                raise RunRejectedError("starting job 'scoring'", "the run of this token was deleted")

        def after(self, call: str) -> None:
            if not self.is_armed and call == "workspace.submit":
                self.is_armed = True
                raise RunSubmissionError("starting job 'scoring'", "no answer")

    world = World(faults=Refuse())
    run = submitted(world)
    world.publish_scores(run)
    report = replace(world.completion_of(run, Outcome.COMPLETED), databricks_run_id=None)
    complete(world.plane, report.to_json())
    if is_to_be_cancelled:
        cancel_run(world.plane, only_run(world).id, OPERATOR)

    world.settle()

    assert only_run(world).outcome is Outcome.FAILED
    assert "was deleted" in (only_run(world).reason or "")


class Answers(Faults):
    """Raises what it is told to at a call, before its effect or after it."""

    def __init__(self) -> None:
        self.refused: dict[str, MlopsError] = {}
        self.lost: dict[str, MlopsError] = {}

    def before(self, call: str) -> None:
        if call in self.refused:
            raise self.refused[call]

    def after(self, call: str) -> None:
        if call in self.lost:
            raise self.lost[call]


@pytest.mark.parametrize(
    "refusal",
    [
        AccessRefusedError("starting job", "PermissionDenied"),
        UnknownJobError(JobKey("scoring"), ()),
        AmbiguousJobError(JobKey("scoring"), (1, 2)),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("is_first_answer_lost", [False, True])
def test_a_run_waits_for_what_a_person_mends(refusal: MlopsError, *, is_first_answer_lost: bool) -> None:
    """Nothing is announced, whatever became of the first call: its token is sent until role and job are there."""
    faults = Answers()
    world = World(faults=faults)
    if is_first_answer_lost:
        faults.lost["workspace.submit"] = RunSubmissionError("starting job", "ReadTimeout")
        world.deliver(make_blob())
        faults.lost.clear()
    faults.refused["workspace.submit"] = refusal
    world.deliver(make_blob("other.parquet") if is_first_answer_lost else make_blob())
    for _ in range(20):
        world.clock.advance(timedelta(seconds=30))
        world.work()
        reconcile(world.plane)
    while_refused = {(run.state, run.attempt) for run in world.runs()}

    faults.refused.clear()
    world.clock.advance(timedelta(seconds=62))
    world.work()
    reconcile(world.plane)

    assert while_refused == {(RunState.SUBMITTING, 1)}
    assert {run.state for run in world.runs()} == {RunState.SUBMITTED}
    assert {run.token for run in world.runs()} == {run.token for run in world.databricks_runs()}
    assert world.publisher.published == []


def test_a_run_that_waits_for_a_job_is_put_back_for_a_minute() -> None:
    world = World()
    world.workspace.jobs.clear()

    world.deliver(make_blob())

    due = world.queue.next_visible_at()
    assert due is not None
    assert timedelta(seconds=60) <= due - world.clock.now() <= timedelta(seconds=61)


def test_a_report_whose_job_cannot_be_looked_up_is_asked_about_again() -> None:
    """The work item goes back instead of to the poison queue."""
    world = World()
    run = submitted(world)
    entry = world.ledger.get_run(only_run(world).id)
    assert entry is not None
    world.ledger.update_run(entry, replace(entry.value, state=RunState.SUBMITTING, databricks_run_id=None))
    world.finish(run)
    world.workspace.jobs.clear()
    world.clock.advance(timedelta(seconds=2))
    world.work()
    world.workspace.jobs[JobKey("scoring")] = 1

    world.clock.advance(timedelta(seconds=62))
    world.work()

    assert only_run(world).outcome is Outcome.COMPLETED


def test_a_run_that_databricks_rejects_has_failed() -> None:
    faults = Answers()
    world = World(faults=faults)
    faults.refused["workspace.submit"] = RunRejectedError("starting job", "InvalidParameterValue")

    world.deliver(make_blob())

    assert only_run(world).outcome is Outcome.FAILED
    assert "InvalidParameterValue" in (only_run(world).reason or "")
    assert world.arrival(make_blob()).state is ArrivalState.FAILED


def test_parameters_that_are_too_large_are_never_sent() -> None:
    """R28: the run fails before any call, and says by how much."""
    faults = Answers()
    world = World(faults=faults)
    faults.refused["workspace.submit"] = RunSubmissionError("starting job", "timeout")
    world.deliver(make_blob())
    entry = world.ledger.get_run(only_run(world).id)
    assert entry is not None
    world.ledger.update_run(entry, replace(entry.value, parameters={"seed": "1" * 10_000}))
    faults.refused.clear()

    world.clock.advance(timedelta(seconds=62))
    world.work()

    assert world.databricks_runs() == []
    assert only_run(world).outcome is Outcome.FAILED
    assert "expected at most 10000" in (only_run(world).reason or "")


def test_a_person_may_ask_for_another_attempt_and_asking_twice_is_one() -> None:
    """R08."""
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()

    retry_run(world.plane, only_run(world).id, OPERATOR)
    retry_run(world.plane, only_run(world).id, OPERATOR)
    world.work()

    assert [item.parameters["attempt"] for item in world.databricks_runs()] == ["1", "2"]
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED


def test_a_retry_does_not_take_files_that_were_replayed() -> None:
    """I2: the file is held again on a person's word, so the retry fails unstarted and the replay has the file."""
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    entry = world.ledger.get_arrival(make_blob())
    assert entry is not None
    assert entry.value.pipeline is not None
    world.ledger.update_arrival(entry, entry.value.replay(entry.value.pipeline, world.clock.now(), "by hand"))

    retry_run(world.plane, only_run(world).id, OPERATOR)
    world.settle_submissions()

    refused = world.publisher.published[-1]
    assert (refused.attempt, refused.outcome) == (2, Outcome.FAILED)
    assert "went to other runs" in (refused.reason or "")
    assert [item.parameters["attempt"] for item in world.databricks_runs()] == ["1", "3"]


def test_a_replayed_batch_is_the_next_attempt_of_its_run() -> None:
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    entry = world.ledger.get_arrival(make_blob())
    assert entry is not None
    assert entry.value.pipeline is not None

    world.ledger.update_arrival(entry, entry.value.replay(entry.value.pipeline, world.clock.now(), "by hand"))
    world.settle_submissions()

    assert [item.parameters["attempt"] for item in world.databricks_runs()] == ["1", "2"]
    assert (only_run(world).attempt, only_run(world).state) == (2, RunState.SUBMITTED)


def test_an_index_row_without_a_run_is_kept_for_a_day() -> None:
    """Its writer may be slow: closing it early would hide the run from the reconciler for ever."""
    world = World()
    world.tables.table("open").put(
        "open", "flight_delay_scoring-20260301T120000Z-0123456789ab", {"opened_at": "2026-03-01T12:00:00.000000Z"}
    )

    reconcile(world.plane)
    early = len(world.tables.rows["open"])
    world.clock.advance(timedelta(days=1, minutes=1))
    reconcile(world.plane)

    assert (early, len(world.tables.rows["open"])) == (1, 0)


def test_the_pipelines_capacity_holds_arrivals_back_and_none_is_lost() -> None:
    from tests.support.control_plane import make_pipelines

    world = World(pipelines=make_pipelines(max_active=2))
    for index in range(4):
        world.deliver(make_blob(f"{index}.parquet"))
    at_first = len(world.databricks_runs())

    for run in world.databricks_runs():
        world.finish(run)
    world.settle_submissions()

    assert at_first == 2
    assert sum(run.arrival_count for run in world.runs()) == 4


def test_a_superseding_run_waits_for_the_cancelled_one() -> None:
    """R26."""
    from tests.support.control_plane import make_pipelines

    world = World(pipelines=make_pipelines(policy="supersede"))
    world.deliver(make_blob("old.parquet"))
    (old,) = world.databricks_runs()

    world.deliver(make_blob("new.parquet"))
    started_beside = len(world.databricks_runs())
    world.settle_submissions()

    assert started_beside == 1
    assert old.status.termination_code == "USER_CANCELED"
    assert len(world.databricks_runs()) == 2
    assert world.arrival(make_blob("old.parquet")).state is ArrivalState.FAILED


def test_a_dropping_pipeline_records_what_it_drops() -> None:
    from tests.support.control_plane import make_pipelines

    world = World(pipelines=make_pipelines(policy="drop"))
    world.deliver(make_blob("old.parquet"))

    world.deliver(make_blob("new.parquet"))

    arrival = world.arrival(make_blob("new.parquet"))
    assert (arrival.state, len(world.databricks_runs())) == (ArrivalState.IGNORED, 1)
    assert "drops" in (arrival.reason or "")
    assert world.tables.rows["pending"] == {}


def test_a_report_that_overtakes_the_answer_to_the_submission_is_kept() -> None:
    """The notebook may end before the worker has recorded that it started."""
    world = World()
    run = submitted(world)
    entry = world.ledger.get_run(only_run(world).id)
    assert entry is not None
    before = replace(entry.value, state=RunState.SUBMITTING, databricks_run_id=None, submitted_at=None)
    world.ledger.update_run(entry, before)
    event = replace(world.completion_of(run, Outcome.COMPLETED), databricks_run_id=None)
    world.publish_scores(run)

    complete(world.plane, replace(event, outputs=None).to_json())
    world.finish(run, reports=False)
    world.settle()

    ended = only_run(world)
    assert (ended.outcome, ended.databricks_run_id) == (Outcome.COMPLETED, DatabricksRunId(run.id))


@pytest.mark.parametrize("is_gone", [True, False])
@pytest.mark.parametrize("result", ["SUCCESS", "FAILED"])
def test_a_lost_input_manifest_does_not_keep_a_run_open(result: str, *, is_gone: bool) -> None:
    world = World()
    run = submitted(world)
    lose_manifest(world, run.parameters["manifest_url"], is_gone=is_gone)

    world.end_databricks_run(run.id, "TERMINATED", result, "")
    reconcile(world.plane)

    assert only_run(world).is_story_over
    assert only_run(world).outcome is Outcome.FAILED
    assert "its input manifest is gone or changed" in (only_run(world).reason or "")
    assert world.arrival(make_blob()).state is ArrivalState.FAILED


def test_a_retry_without_its_input_manifest_fails() -> None:
    world = World()
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    lose_manifest(world, run.parameters["manifest_url"], is_gone=True)

    retry_run(world.plane, only_run(world).id, OPERATOR)
    world.work()

    assert (only_run(world).attempt, only_run(world).outcome) == (2, Outcome.FAILED)
    assert "its input manifest is gone or changed" in (only_run(world).reason or "")


def lose_manifest(world: World, url: str, *, is_gone: bool) -> None:
    """Delete an input manifest, or put something else in its place."""
    if is_gone:
        del world.manifests.blobs[url]
    else:
        world.manifests.blobs[url] = b"{}"


def test_the_retry_of_an_older_run_leaves_the_newer_one_alone() -> None:
    from tests.support.control_plane import make_pipelines

    world = World(pipelines=make_pipelines(policy="supersede"))
    run = submitted(world)
    world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.settle()
    old = only_run(world)
    world.clock.advance(timedelta(minutes=1))  # newer is what was decided later
    world.deliver(make_blob("new.parquet"), at=old.cause.at - timedelta(minutes=1))
    newer = world.databricks_runs()[-1]

    retry_run(world.plane, old.id, OPERATOR)
    world.work()

    assert newer.status.verdict.is_open
    (retried,) = [item for item in world.runs() if item.id == old.id]
    assert "superseded by the newer run" in (retried.reason or "")


def test_a_failure_that_nobody_knows_keeps_nothing_else_waiting() -> None:
    """An answer that is refused for good, such as an event that the topic does not take, comes back with each look."""

    class RefuseEvents(Faults):
        def before(self, call: str) -> None:
            if call == "publisher.publish":
                raise HttpResponseError("413 Payload Too Large")

    world = World(pipelines=make_pipelines(quiet=10, max_wait=20), faults=RefuseEvents())
    for name in ("a.parquet", "b.parquet"):
        world.deliver(make_blob(name))
        world.clock.advance(timedelta(seconds=21))
        world.work()
    for run in world.databricks_runs():
        world.end_databricks_run(run.id, "TERMINATED", "FAILED", "RUN_EXECUTION_ERROR")
    world.deliver(make_blob("c.parquet"))
    world.queue.messages.clear()
    world.clock.advance(timedelta(minutes=1))

    with pytest.raises(HttpResponseError, match="413"):
        reconcile(world.plane)

    assert {run.state for run in world.runs() if run.arrivals != (world.arrival(make_blob("c.parquet")).id,)} == {
        RunState.ENDED
    }
    assert world.arrival(make_blob("c.parquet")).state is ArrivalState.ASSIGNED
