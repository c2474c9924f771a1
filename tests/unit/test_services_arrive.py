"""Tests what becomes of deliveries: recorded once, started once, ignored with a reason."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from functions.core.errors import (
    InvalidEventError,
    QueueUnavailableError,
    ThrottledError,
    WorkspaceUnavailableError,
)
from functions.core.model import ArrivalState, RunState
from functions.services.arrive import arrive
from functions.services.closing import close_pipeline_batch
from functions.services.plane import Done, Wait, the_only_look
from functions.services.reconcile import reconcile
from tests.support.control_plane import SCORING, World, blob_message, make_blob, make_pipelines
from tests.support.in_memory import Faults


def test_a_wanted_blob_starts_one_run_at_once() -> None:
    """With no window, the run is submitted when the delivery is acknowledged."""
    world = World()

    world.deliver(make_blob())

    (run,) = world.runs()
    (started,) = world.databricks_runs()
    assert (run.state, run.databricks_run_id, run.model_version) == (RunState.SUBMITTED, started.id, "7")
    assert started.token == run.token
    assert world.arrival(make_blob()).state is ArrivalState.ASSIGNED
    assert world.queue.messages == []


def test_a_redelivery_is_counted_and_starts_nothing() -> None:
    """R02, R07: however often an event comes, its file is one arrival and one run."""
    world = World()

    for _ in range(3):
        world.deliver(make_blob())

    assert len(world.databricks_runs()) == 1
    assert world.arrival(make_blob()).deliveries == 3


def test_an_overwrite_is_another_arrival_and_another_run() -> None:
    """R02: identity includes the ETag."""
    world = World()

    world.deliver(make_blob(etag="0x1"))
    world.deliver(make_blob(etag="0x2"))

    assert len(world.databricks_runs()) == 2


def test_an_older_version_that_comes_late_is_superseded() -> None:
    """R12: the sequencer orders the versions of one path, whatever the order of delivery."""
    world = World()
    newer, older = make_blob(etag="0x2", sequencer="0002"), make_blob(etag="0x1", sequencer="0001")

    world.deliver(newer)
    world.deliver(older)

    assert world.arrival(older).state is ArrivalState.SUPERSEDED
    assert len(world.databricks_runs()) == 1


def test_a_held_older_version_is_superseded_by_a_newer_one() -> None:
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60))
    newer, older = make_blob(etag="0x2", sequencer="0002"), make_blob(etag="0x1", sequencer="0001")
    world.deliver(older)
    world.deliver(newer)

    world.clock.advance(timedelta(seconds=61))
    world.work()

    assert world.arrival(older).state is ArrivalState.SUPERSEDED
    (run,) = world.runs()
    assert run.arrival_count == 1


@pytest.mark.parametrize(
    ("container", "path", "reason"),
    [
        ("scores", "flight_delay_scoring/batch=1/part-0.parquet", "outputs never trigger"),
        ("tidegate", "manifests/x.json", "Tidegate's own data"),
        ("other", "a.parquet", "no pipeline reads this container"),
        ("input", "elsewhere/a.parquet", "no route matches"),
    ],
)
def test_what_nobody_wants_is_recorded_with_the_reason(container: str, path: str, reason: str) -> None:
    world = World()
    blob = make_blob()
    blob = type(blob)(account=blob.account, container=container, path=path, etag="0x1", size_bytes=5)

    world.deliver(blob)

    arrival = world.arrival(blob)
    assert arrival.state is ArrivalState.IGNORED
    assert reason in (arrival.reason or "")
    assert world.databricks_runs() == []


def test_an_entry_names_the_configuration_that_decided() -> None:
    """R20: of what is held and of what was ignored."""
    world = World(model_version=None)
    wanted, unwanted = make_blob("a.parquet"), make_blob("b.csv")

    world.deliver(wanted)
    world.deliver(unwanted)

    assert world.pipelines.version not in {"", make_pipelines(max_files=7).version}
    assert {world.arrival(blob).config_version for blob in (wanted, unwanted)} == {world.pipelines.version}


def test_what_is_no_event_is_refused() -> None:
    world = World()

    with pytest.raises(InvalidEventError):
        arrive(world.plane, "no event")

    assert world.tables.rows["arrivals"] == {}


@pytest.mark.recipe("Files are held and no run follows")
def test_without_a_model_arrivals_wait_and_say_why() -> None:
    """A model version is never guessed."""
    world = World(model_version=None)

    world.deliver(make_blob())
    world.work()

    arrival = world.arrival(make_blob())
    assert (arrival.state, arrival.reason) == (ArrivalState.HELD, "no_model_yet")
    assert world.databricks_runs() == []


@pytest.mark.recipe("Files are held and no run follows")
def test_arrivals_go_as_soon_as_there_is_a_model() -> None:
    world = World(model_version=None)
    world.deliver(make_blob("a.parquet"))
    world.deliver(make_blob("b.parquet"))

    world.workspace.models["main.tidegate.flight_delay", "champion"] = "1"
    world.clock.advance(timedelta(seconds=30))
    world.work()

    (run,) = world.runs()
    assert (run.arrival_count, run.model_version) == (2, "1")


def test_a_window_makes_one_run_of_many_files() -> None:
    """R09: however many files a window brings, they are one run."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=120))
    for index in range(250):
        world.deliver(make_blob(f"{index:03d}.parquet"))

    world.clock.advance(timedelta(seconds=31))
    world.work()

    (run,) = world.runs()
    (started,) = world.databricks_runs()
    assert (run.arrival_count, run.file_count, len(run.arrivals)) == (250, 250, 200)
    assert started.parameters["manifest_sha256"] == run.manifest.sha256 if run.manifest else False
    assert world.tables.rows["pending"] == {}


@pytest.mark.parametrize("is_rescued_by_a_later_file", [True, False])
def test_a_window_survives_a_restart_and_the_loss_of_its_message(*, is_rescued_by_a_later_file: bool) -> None:
    """R09: the window lives in the ledger: it opened when the first file was recorded, whoever looks when."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=40))
    world.deliver(make_blob("a.parquet"))
    world.queue.messages.clear()
    world.plane = world.make_plane()
    world.clock.advance(timedelta(seconds=25))
    world.deliver(make_blob("b.parquet"))  # the quiet period begins anew, the longest wait does not
    if not is_rescued_by_a_later_file:
        world.queue.messages.clear()

    world.clock.advance(timedelta(seconds=14))
    reconcile(world.plane)
    world.work()
    held_until_then = world.runs()
    world.clock.advance(timedelta(seconds=1))
    reconcile(world.plane)

    assert held_until_then == []
    (run,) = world.runs()
    assert (run.arrival_count, run.state) == (2, RunState.SUBMITTED)


def test_a_clock_that_was_a_day_ahead_does_not_hold_a_file_for_a_day() -> None:
    """R09: no window is longer than `max_wait_seconds`, but for clocks that differ by minutes."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60))
    world.clock.advance(timedelta(days=1))
    world.deliver(make_blob())
    world.clock.advance(timedelta(days=-1))

    reconcile(world.plane)

    (run,) = world.runs()
    assert run.state is RunState.SUBMITTED


def test_one_message_wakes_the_dispatcher_for_a_whole_window() -> None:
    """A storm does not write a message per arrival."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=120))

    for index in range(50):
        world.deliver(make_blob(f"{index:03d}.parquet"))

    assert len(world.queue.messages) == 1


def test_more_files_than_a_batch_takes_make_several_runs() -> None:
    """R09: no run reads more than `max_files`, and none is left."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=120, max_files=10))
    for index in range(25):
        world.deliver(make_blob(f"{index:03d}.parquet"))

    world.clock.advance(timedelta(seconds=31))
    world.settle_submissions()

    assert sorted(run.arrival_count for run in world.runs()) == [5, 10, 10]


def test_a_cold_process_hands_over_instead_of_importing() -> None:
    """An arrival in a process that has not spoken to Databricks yet is acknowledged at once."""
    world = World()
    world.workspace.is_warm = False

    world.deliver(make_blob())
    assert world.workspace.calls.counts == {}
    world.work()

    assert len(world.databricks_runs()) == 1


class _Throttled(Faults):
    """Refuses some calls of one kind."""

    def __init__(self, call: str, times: int, error: Exception) -> None:
        self.call, self.times, self.error = call, times, error

    def before(self, call: str) -> None:
        if call == self.call and self.times:
            self.times -= 1
            raise self.error


@pytest.mark.parametrize("call", ["workspace.submit", "workspace.resolve", "workspace.find_job"])
def test_throttled_work_goes_back_with_the_delay_that_was_asked_for(call: str) -> None:
    """R23: Retry-After is honoured, and the delivery is acknowledged meanwhile."""
    world = World(faults=_Throttled(call, 1, ThrottledError("starting", 42.0)))

    world.deliver(make_blob())

    visible_at = world.queue.next_visible_at()
    assert visible_at is not None
    assert timedelta(seconds=42) <= visible_at - world.clock.now() < timedelta(seconds=44)
    world.clock.advance(timedelta(seconds=44))
    world.work()
    assert len(world.databricks_runs()) == 1


def test_work_is_put_back_for_an_hour_at_most() -> None:
    """Whoever asks for more is mistaken; and no answer, however absurd, is beyond what a queue can wait."""
    world = World(faults=_Throttled("workspace.submit", 1, ThrottledError("starting", 1e300)))

    world.deliver(make_blob())

    visible_at = world.queue.next_visible_at()
    assert visible_at is not None
    assert timedelta(hours=1) <= visible_at - world.clock.now() < timedelta(hours=1, seconds=2)


def test_a_storm_of_refusals_drains() -> None:
    """R23: nine calls in ten are refused; every run starts exactly once all the same."""
    world = World(faults=_Throttled("workspace.submit", 90, WorkspaceUnavailableError("starting", "503")))

    for index in range(10):
        world.deliver(make_blob(f"{index}.parquet"))
    world.settle_submissions(rounds=60)

    assert len(world.databricks_runs()) == 10
    assert {run.state for run in world.runs()} == {RunState.SUBMITTED}


def test_the_trace_of_the_event_goes_on_in_the_run() -> None:
    world = World()

    world.deliver(make_blob(), at=datetime(2026, 3, 1, tzinfo=UTC))

    (span,) = [span for span in world.telemetry.spans if span.name == "arrival"]
    (started,) = world.databricks_runs()
    assert started.parameters["traceparent"] == span.traceparent
    assert world.arrival(make_blob()).traceparent == span.traceparent


def test_the_message_may_be_in_either_encoding() -> None:
    """The Functions host decodes base64, other readers of the queue may not."""
    import base64

    world = World()

    arrive(world.plane, base64.b64decode(blob_message(make_blob())))

    assert world.arrival(make_blob()).deliveries == 1


def test_threads_that_hold_arrivals_at_once_write_one_message() -> None:
    """In a storm all threads of a worker come to the same conclusion at the same moment."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=90))
    all_here = threading.Barrier(8)

    def hold(index: int) -> None:
        all_here.wait(30)
        world.deliver(make_blob(f"{index}.parquet"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(8)))

    assert len(world.queue.messages) == 1


def test_a_wake_up_that_could_not_be_written_is_written_by_the_next() -> None:
    class NoQueue(Faults):
        is_down = True

        def before(self, call: str) -> None:
            if self.is_down and call == "queue.enqueue":
                raise QueueUnavailableError(call, "scripted")

    faults = NoQueue()
    world = World(pipelines=make_pipelines(quiet=30, max_wait=90), faults=faults)
    with pytest.raises(QueueUnavailableError):
        world.deliver(make_blob("a.parquet"))
    faults.is_down = False

    world.deliver(make_blob("b.parquet"))

    assert len(world.queue.messages) == 1


def test_a_second_look_in_one_process_waits_for_the_first() -> None:
    """Two who look would read the same arrivals and take claims from each other."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=90))
    world.deliver(make_blob())
    world.clock.advance(timedelta(minutes=2))

    with the_only_look(world.plane, SCORING) as is_only:
        meanwhile = close_pipeline_batch(world.plane, SCORING)
    afterwards = close_pipeline_batch(world.plane, SCORING)

    assert is_only
    assert isinstance(meanwhile, Wait)
    assert isinstance(afterwards, Done)
    assert len(world.databricks_runs()) == 1
