"""Tests what people and schedules ask for: once per key, once per slot, explained, refused with reasons."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from functions.core.decided import Skip
from functions.core.errors import InvalidRequestError, UnknownPipelineError, UnknownRunError
from functions.core.ledger import Run
from functions.core.listing import RunFilter
from functions.core.model import BlobVersion, JobKey, Outcome, PipelineKey, RunId, RunState
from functions.core.reasons import SkipReason
from functions.ports import NotedSlot
from functions.services import decided_runs
from functions.services.health import check_health, health_of
from functions.services.listing import list_runs
from functions.services.quarantine import quarantine_message
from functions.services.reconcile import reconcile
from functions.services.requests import explain_request, request_run, show_run
from functions.services.schedule import fire_schedule
from tests.support.control_plane import ACCOUNT, SCORING, TRAINING, World, make_blob, make_pipelines


def put_history(world: World, *names: str) -> None:
    """Upload training data."""
    for name in names:
        path = f"flights/history/{name}"
        world.inputs.put(BlobVersion(account=ACCOUNT, container="input", path=path, etag=f"0x{name}", size_bytes=9))


def body(**fields: object) -> bytes:
    return json.dumps({"pipeline": TRAINING, **fields}).encode()


def test_the_same_key_is_the_same_run_however_late() -> None:
    world = World()
    put_history(world, "2013-01.parquet")

    first = request_run(world.plane, body(), idempotency_key="k")
    world.clock.advance(timedelta(hours=5))
    second = request_run(world.plane, body(), idempotency_key="k")
    world.settle_submissions()

    assert isinstance(first, Run)
    assert isinstance(second, Run)
    assert first.id == second.id
    assert len(world.databricks_runs()) == 1


@pytest.mark.parametrize(("policy", "models"), [("drop", 1), ("parallel", 0)], ids=["it is active", "no model"])
def test_the_same_key_is_the_same_run_whatever_would_keep_it_from_starting_now(policy: str, models: int) -> None:
    """Whoever lost the first answer must not read in the second one that there is no run."""
    world = World(pipelines=make_pipelines(policy=policy))
    world.inputs.put(make_blob())
    first = request_run(world.plane, body(pipeline=SCORING), idempotency_key="k")
    world.settle_submissions()
    if not models:
        world.workspace.models.clear()

    second = request_run(world.plane, body(pipeline=SCORING), idempotency_key="k")

    assert isinstance(first, Run)
    assert isinstance(second, Run)
    assert second.id == first.id
    world.finish(world.databricks_runs()[0])
    world.settle()
    assert request_run(world.plane, body(pipeline=SCORING), idempotency_key="k") == show_run(world.plane, first.id)
    assert world.is_quiet()


def test_another_request_under_a_used_key_is_refused() -> None:
    world = World()
    put_history(world, "2013-01.parquet")
    request_run(world.plane, body(), idempotency_key="k")

    with pytest.raises(InvalidRequestError, match="Idempotency-Key"):
        request_run(world.plane, body(parameters={"learning_rate": "0.1"}), idempotency_key="k")


def test_a_wrong_request_does_not_take_its_key() -> None:
    world = World()
    put_history(world, "2013-01.parquet")

    with pytest.raises(InvalidRequestError):
        request_run(world.plane, body(stages={"cooking": True}), idempotency_key="k")
    run = request_run(world.plane, body(), idempotency_key="k")

    assert isinstance(run, Run)


def test_a_named_file_that_does_not_exist_is_a_bad_field() -> None:
    world = World()
    url = f"https://{ACCOUNT}.blob.core.windows.net/input/flights/new/nothing.parquet"

    with pytest.raises(InvalidRequestError, match="a file that exists"):
        request_run(world.plane, body(pipeline=SCORING, files=[url]), idempotency_key="k")


def test_named_files_are_scored_in_the_version_they_have() -> None:
    world = World()
    world.inputs.put(make_blob(etag="0x7"))

    run = request_run(world.plane, body(pipeline=SCORING, files=[make_blob().url]), idempotency_key="k")

    assert isinstance(run, Run)
    assert run.manifest is not None
    assert [file.blob.etag for file in world.manifests.read(run.manifest).files] == ["0x7"]


def test_a_name_of_which_spark_would_read_another_path_is_left_out_of_a_listing() -> None:
    """One such blob would fail every training run, on the data of everybody else."""
    world = World()
    put_history(world, "2013-01.parquet", "/2013-02.parquet", "../new/2013-03.parquet", "./2013-04.parquet")

    run = request_run(world.plane, body(), idempotency_key="k")

    assert isinstance(run, Run)
    assert run.manifest is not None
    files = world.manifests.read(run.manifest).files
    assert [file.blob.path for file in files] == ["flights/history/2013-01.parquet"]


def test_without_training_data_nothing_starts() -> None:
    world = World()

    refused = request_run(world.plane, body(), idempotency_key="k")

    assert isinstance(refused, Skip)
    assert refused.reason is SkipReason.NO_TRAINING_DATA
    assert world.runs() == []


def test_without_a_model_a_scoring_request_is_refused() -> None:
    world = World(model_version=None)
    world.inputs.put(make_blob())

    refused = request_run(world.plane, body(pipeline=SCORING), idempotency_key="k")

    assert isinstance(refused, Skip)
    assert refused.reason is SkipReason.NO_MODEL_YET


def test_an_explanation_starts_and_remembers_nothing() -> None:
    """R19."""
    world = World()
    put_history(world, "2013-01.parquet")

    document = explain_request(world.plane, body(), idempotency_key="k")

    assert document["decision"]["action"] == "start"  # type: ignore[index] # a JSON document
    assert world.tables.rows["marks"] == {}
    assert world.manifests.blobs == {}
    assert world.queue.messages == []


def test_requested_training_waits_for_the_one_that_runs() -> None:
    """R26, policy queue: one after the other."""
    world = World()
    put_history(world, "2013-01.parquet")
    request_run(world.plane, body(), idempotency_key="one")
    world.clock.advance(timedelta(seconds=1))
    request_run(world.plane, body(), idempotency_key="two")

    world.work()
    beside = len(world.databricks_runs())
    world.finish(world.databricks_runs()[0])
    world.settle_submissions()

    assert beside == 1
    assert len(world.databricks_runs()) == 2


def test_a_slot_starts_once_however_often_its_timer_fires() -> None:
    """R05."""
    world = World()
    put_history(world, "2013-01.parquet")

    for _ in range(3):
        fire_schedule(world.plane, TRAINING, "monthly")
        world.clock.advance(timedelta(minutes=1))
    world.settle_submissions()

    (run,) = world.runs()
    assert run.cause.at == datetime(2026, 3, 1, 3, tzinfo=UTC)
    assert len(world.databricks_runs()) == 1


def test_missed_slots_follow_the_policy_latest() -> None:
    """After an outage of three months, the last slot runs and the others do not."""
    world = World()
    put_history(world, "2013-01.parquet")
    before = NotedSlot(slot=datetime(2025, 12, 1, 3, tzinfo=UTC), timetable="0 0 3 1 * * UTC")
    world.ledger.note_slot(TRAINING, "monthly", before, "done")

    outcomes = fire_schedule(world.plane, TRAINING, "monthly")

    assert [outcome.slot for outcome in outcomes] == [datetime(2026, 3, 1, 3, tzinfo=UTC)]


def test_the_reconciler_catches_up_with_a_slot_whose_timer_failed() -> None:
    world = World()
    put_history(world, "2013-01.parquet")
    reconcile(world.plane)
    assert world.runs() == []

    world.clock.advance(timedelta(days=31))  # into 1 April
    reconcile(world.plane)
    reconcile(world.plane)

    (run,) = world.runs()
    assert run.cause.at == datetime(2026, 4, 1, 3, tzinfo=UTC)


def test_a_slot_without_training_data_is_dealt_with_and_says_why() -> None:
    world = World()

    (outcome,) = fire_schedule(world.plane, TRAINING, "monthly")

    assert "training data" in outcome.what
    noted = world.ledger.last_slot(TRAINING, "monthly")
    assert noted is not None
    assert noted.slot == outcome.slot


def test_the_second_attempt_to_write_a_run_keeps_the_files_of_the_first() -> None:
    """A crash between manifest and run: storage may have more files by then, the run has not."""
    world = World()
    put_history(world, "2013-01.parquet")
    fire_schedule(world.plane, TRAINING, "monthly")
    for table in ("runs", "marks"):  # as if the process had died just before
        world.tables.rows[table].clear()
    put_history(world, "2013-02.parquet")

    fire_schedule(world.plane, TRAINING, "monthly")

    (run,) = world.runs()
    assert run.file_count == 1


def test_a_completed_training_releases_the_arrivals_that_waited_for_a_model() -> None:
    world = World(model_version=None)
    put_history(world, "2013-01.parquet")
    world.deliver(make_blob())
    fire_schedule(world.plane, TRAINING, "monthly")
    world.work()
    (training,) = world.databricks_runs()

    world.workspace.models["main.tidegate.flight_delay", "champion"] = "1"
    world.finish(training)
    world.clock.advance(timedelta(seconds=2))
    world.work()

    states = {run.kind.value: (run.state, run.outcome) for run in world.runs()}
    assert states["training"] == (RunState.ENDED, Outcome.COMPLETED)
    assert states["scoring"] == (RunState.SUBMITTED, None)


def test_runs_are_listed_newest_first() -> None:
    world = World()
    for day in (1, 3, 2):
        world.deliver(make_blob(f"{day}.parquet"), at=datetime(2026, 2, day, tzinfo=UTC))

    found = list_runs(
        world.ledger, world.pipelines, RunFilter(), pipeline=SCORING, since=None, limit=2, now=world.clock.now()
    )

    assert [run.cause.at.day for run in found] == [3, 2]


def test_what_is_unknown_is_said() -> None:
    world = World()

    with pytest.raises(UnknownRunError):
        show_run(world.plane, RunId("flight_delay_scoring-20260101T000000Z-0123456789ab"))
    with pytest.raises(UnknownPipelineError):
        list_runs(
            world.ledger,
            world.pipelines,
            RunFilter(),
            pipeline=PipelineKey("nobody"),
            since=None,
            limit=1,
            now=world.clock.now(),
        )


def test_a_poison_message_is_kept_with_its_reason_once() -> None:
    world = World()
    at = datetime(2026, 3, 1, tzinfo=UTC)

    first = quarantine_message(world.plane, "arrivals", "m-1", b"\xff no event", at)
    second = quarantine_message(world.plane, "arrivals", "m-1", b"\xff no event", at)

    assert first == second
    (kept,) = world.ledger.quarantined(limit=10)
    assert "JSON" in kept.reason
    (document,) = world.quarantine.documents.values()
    assert document["queue"] == "arrivals"


def test_health_names_every_job_that_is_missing() -> None:
    """R29."""
    world = World()
    world.workspace.jobs.clear()

    health = check_health(world.plane)

    assert [name for name, _ in health.problems] == ["job:scoring", "job:training"]
    assert health.to_public_json(with_details=False) == {"status": "red", "problems": ["job:scoring", "job:training"]}
    assert check_health(World().plane).is_green


def test_health_names_every_job_that_has_drifted() -> None:
    """R29: a namesake of a job, and a job that would skip what it cannot run, are seen before a run is lost to them."""
    world = World()
    assert check_health(world.plane).is_green

    world.workspace.jobs[JobKey("scoring")] += 1
    world.workspace.jobs_without_queue.add(JobKey("training"))

    problems = dict(check_health(world.plane).problems)
    assert set(problems) == {"job:scoring", "job:training"}
    assert "expected one" in problems["job:scoring"]
    assert "not as its template says (queue: (absent)" in problems["job:training"]


def test_red_health_is_looked_at_again_soon() -> None:
    """Whoever deploys the missing jobs does not read for half a minute that they are missing."""
    world = World()
    jobs = dict(world.workspace.jobs)
    world.workspace.jobs.clear()
    assert not health_of(world.plane).is_green

    world.workspace.jobs.update(jobs)
    world.clock.advance(timedelta(seconds=6))

    assert health_of(world.plane).is_green


@pytest.mark.parametrize(("limits", "is_refused"), [((2, 9), False), ((1, 9), True), ((9, 2), True), ((2, 3), False)])
def test_more_files_than_a_run_may_read_are_refused_instead_of_cut(
    limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch, *, is_refused: bool
) -> None:
    """Only the files that the glob picks count against what a run may read."""
    monkeypatch.setattr(decided_runs, "_MOST_FILES", limits[0])
    monkeypatch.setattr(decided_runs, "_MOST_LISTED", limits[1])
    world = World()
    put_history(world, "1.parquet", "2.parquet", "0.txt")

    if is_refused:
        with pytest.raises(InvalidRequestError, match="more files"):
            request_run(world.plane, body(), idempotency_key="k")
    else:
        run = request_run(world.plane, body(), idempotency_key="k")
        assert isinstance(run, Run)
        assert run.file_count == 2
