"""Tests what becomes of a file whose consignment was frozen without it."""

from collections.abc import Callable
from datetime import timedelta

from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, Outcome, RunState
from functions.core.work import WorkItem, WorkKind
from functions.services.dispatch import dispatch
from tests.support.consignments import (
    COUNT,
    FOLDER,
    LATE,
    MARKER,
    PLACE,
    batches,
    files_of,
    land,
    make_world,
    marker,
    names,
    part,
    pass_time,
    pipelines_of,
    versions_before,
)
from tests.support.control_plane import SCORING, World
from tests.support.in_memory import Faults


class TestLateFiles:
    """What becomes of a file whose consignment was frozen without it."""

    def frozen_world(self, readiness: str) -> World:
        """Return a world whose folder was frozen with the files a and b."""
        world = make_world(readiness)
        land(world, part("a"), part("b"), marker())
        pass_time(world)
        assert batches(world) == [names("a", "b")]
        return world

    def test_a_late_file_makes_a_new_version_over_the_whole_set(self) -> None:
        """R10: late files, by policy."""
        world = self.frozen_world(f"{MARKER}, {LATE}")

        land(world, part("c"))
        pass_time(world)

        assert batches(world) == [names("a", "b"), names("a", "b", "c")]
        first, second = sorted(world.runs(), key=versions_before(world))
        assert (second.replaces, second.consignment, second.arrival_count, second.file_count) == (
            first.id,
            PLACE,
            1,
            3,
        )
        assert second.batch_id != first.batch_id

    def test_a_file_that_a_dead_worker_claimed_for_a_frozen_version_is_in_the_next_one(self) -> None:
        """R10: whoever looks lets it go, and looks again at once."""
        world = self.frozen_world(f"{MARKER}, {LATE}")
        (first,) = world.runs()
        land(world, part("c"))
        claimed = world.ledger.get_arrival(part("c"))
        assert claimed is not None
        world.ledger.update_arrival(claimed, claimed.value.assign(first.id, world.clock.now()))

        world.clock.advance(timedelta(seconds=11))
        world.work()

        assert batches(world) == [names("a", "b"), names("a", "b", "c")]
        assert world.arrival(part("c")).run_id != first.id

    def test_a_slow_worker_that_froze_a_version_leaves_the_later_one_as_it_is(self) -> None:
        """R10: between its run and its note, another worker froze the next version; the one after replaces that."""

        class AfterTheRun(Faults):
            then: Callable[[], None] | None = None

            def after(self, call: str) -> None:
                then = self.then
                if call == "tables.runs.insert" and then is not None:
                    self.then = None
                    then()

        story = AfterTheRun()
        world = World(pipelines=pipelines_of(f"{MARKER}, {LATE}"), faults=story)

        def another_worker_goes_on() -> None:
            land(world, part("c"))
            world.clock.advance(timedelta(seconds=11))
            item = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=SCORING, consignment=PLACE)
            dispatch(world.make_plane(), item.to_json())

        story.then = another_worker_goes_on
        land(world, part("a"), part("b"), marker())
        pass_time(world)

        land(world, part("d"))
        pass_time(world)

        assert batches(world) == [names("a", "b"), names("a", "b", "c"), names("a", "b", "c", "d")]

    def test_the_end_of_a_later_version_says_what_it_takes_the_place_of(self) -> None:
        """R10: a subscriber that hears of both knows which counts, whoever announces it."""
        world = self.frozen_world(f"{MARKER}, {LATE}")
        land(world, part("c"))
        pass_time(world)
        for run in world.databricks_runs():
            world.finish(run, reports=False)
        world.settle()

        first, second = sorted(world.runs(), key=versions_before(world))

        told = {event.run_id: (event.consignment, event.replaces) for event in world.publisher.published}
        assert told == {first.id: (PLACE, None), second.id: (PLACE, first.id)}
        assert second.manifest is not None
        manifest = InputManifest.from_bytes(world.manifests.blobs[second.manifest.url])
        assert (manifest.consignment, manifest.replaces) == (PLACE, first.id)

    def test_an_overwritten_file_is_in_the_new_version_once(self) -> None:
        world = self.frozen_world(f"{MARKER}, {LATE}")

        land(world, part("a", etag="0x2"))
        pass_time(world)

        second = max(world.runs(), key=versions_before(world))
        assert files_of(world, second) == {(f"{FOLDER}/a.parquet", "0x2"), (f"{FOLDER}/b.parquet", "0x1")}

    def test_a_file_that_was_deleted_is_not_in_the_new_version(self) -> None:
        """A producer that writes the folder again gives its files other names."""
        world = self.frozen_world(f"{MARKER}, {LATE}")
        world.inputs.remove(part("b"))

        land(world, part("c"))
        pass_time(world)

        assert batches(world)[1] == names("a", "c")

    def test_late_files_that_come_together_share_a_version(self) -> None:
        world = self.frozen_world(f"{MARKER}, {LATE}")

        for name in "cde":
            land(world, part(name))
        pass_time(world)

        assert batches(world)[1:] == [names("a", "b", "c", "d", "e")]

    def test_each_version_ends_its_own_arrivals(self) -> None:
        """I2: the files of the version before stay with their run."""
        world = self.frozen_world(f"{MARKER}, {LATE}")
        land(world, part("c"))
        pass_time(world)

        for run in world.databricks_runs():
            world.finish(run, outcome=Outcome.COMPLETED)
        world.settle()

        first, second = sorted(world.runs(), key=versions_before(world))
        assert {run.outcome for run in world.runs()} == {Outcome.COMPLETED}
        assert [world.arrival(part(name)).run_id for name in "abc"] == [first.id, first.id, second.id]
        assert {world.arrival(part(name)).state for name in "abc"} == {ArrivalState.SCORED}

    def test_a_late_file_is_quarantined_if_the_pipeline_says_so(self) -> None:
        """R10: late files, by policy."""
        world = self.frozen_world(f'{MARKER}, late = "quarantine"')

        land(world, part("c"))
        pass_time(world)

        arrival = world.arrival(part("c"))
        assert (arrival.state, arrival.reason) == (
            ArrivalState.IGNORED,
            "its consignment was frozen without it, and the pipeline quarantines what comes late",
        )
        assert batches(world) == [names("a", "b")]
        assert world.tables.rows["pending"] == {}

    def test_a_quarantined_file_that_a_person_replays_makes_a_new_version(self) -> None:
        world = self.frozen_world(f'{MARKER}, late = "quarantine"')
        land(world, part("c"))
        pass_time(world)

        entry = world.ledger.get_arrival(part("c"))
        assert entry is not None
        world.ledger.update_arrival(entry, entry.value.replay(SCORING, world.clock.now(), "replayed"))
        pass_time(world)

        assert batches(world) == [names("a", "b"), names("a", "b", "c")]

    def test_a_failed_file_that_a_person_replays_makes_a_new_version_of_the_whole_set(self) -> None:
        world = self.frozen_world(f"{MARKER}, {LATE}")
        (started,) = world.databricks_runs()
        world.finish(started, outcome=Outcome.FAILED)
        world.settle()
        assert world.arrival(part("a")).state is ArrivalState.FAILED

        entry = world.ledger.get_arrival(part("a"))
        assert entry is not None
        world.ledger.update_arrival(entry, entry.value.replay(SCORING, world.clock.now(), "replayed"))
        pass_time(world)

        assert batches(world) == [names("a", "b"), names("a", "b")]
        assert max(world.runs(), key=versions_before(world)).state is RunState.SUBMITTED

    def test_a_late_file_after_a_timeout_is_late_too(self) -> None:
        world = make_world(f'{COUNT}, on_timeout = "start", {LATE}', quiet=10, max_wait=60)
        land(world, part("a"), part("b"))
        pass_time(world, 61)
        assert batches(world) == [names("a", "b")]

        land(world, part("c"))
        pass_time(world)

        assert batches(world)[1:] == [names("a", "b", "c")]

    def test_a_lost_manifest_of_the_first_version_does_not_stop_the_second(self) -> None:
        world = self.frozen_world(f"{MARKER}, {LATE}")
        world.manifests.blobs.clear()

        land(world, part("c"))
        pass_time(world)

        assert [names("c")] == [
            {name for name, _ in files_of(world, run)} for run in world.runs() if run.replaces is not None
        ]

    def test_a_version_that_retention_removed_is_not_frozen_again(self) -> None:
        """Its row says that it was: a late file makes the next version, of what is known."""
        world = self.frozen_world(f"{MARKER}, {LATE}")
        (old,) = world.runs()
        world.tables.rows["runs"].clear()
        world.tables.rows["open"].clear()

        land(world, part("c"))
        pass_time(world)

        (run,) = world.runs()
        assert (run.replaces, run.id == old.id) == (old.id, False)
        assert {name for name, _ in files_of(world, run)} == names("c")
        assert len(world.databricks_runs()) == 2

    def test_a_redelivery_after_the_freeze_is_not_late(self) -> None:
        world = self.frozen_world(f"{MARKER}, {LATE}")

        for blob in (part("a"), marker(), part("b")):
            world.deliver(blob)
        pass_time(world)

        assert batches(world) == [names("a", "b")]

    def test_a_clock_that_jumps_back_does_not_reopen_a_version(self) -> None:
        world = self.frozen_world(f"{MARKER}, {LATE}")
        before = world.runs()

        world.clock.advance(timedelta(hours=-5))
        world.deliver(part("a"))
        land(world, marker(etag="0xN"))
        pass_time(world)

        assert world.runs() == before
