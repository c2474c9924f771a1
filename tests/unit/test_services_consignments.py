"""Tests folders of files that make sense only together: one run each, however they arrive, and what comes late."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.core.errors import LedgerConflictError
from functions.core.ledger import Run
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, BlobVersion, Outcome, RunState
from functions.core.pipelines import Pipelines
from functions.services.arrive import arrive
from functions.services.closing import close_pipeline_batch
from functions.services.reconcile import reconcile
from tests.support.control_plane import SCORING, World, blob_message, make_blob, make_pipelines
from tests.support.interleaving import Interleaving

MARKER = 'kind = "marker"'
MANIFEST = 'kind = "manifest", name = "files.json"'
COUNT = 'kind = "count", count = 3'
FOLDER = "2013-07"
PLACE = "input/flights/new/2013-07/"


def make_world(readiness: str, *, quiet: int = 10, **window: Any) -> World:
    return World(pipelines=pipelines_of(readiness, quiet=quiet, **window))


def pipelines_of(readiness: str, *, quiet: int = 10, **window: Any) -> Pipelines:
    max_wait = window.pop("max_wait", max(quiet, 60))
    return make_pipelines(quiet=quiet, max_wait=max_wait, glob="**/*.parquet", readiness=readiness, **window)


def part(name: str, *, etag: str = "0x1", folder: str = FOLDER, sequencer: str | None = None) -> BlobVersion:
    return make_blob(f"{folder}/{name}.parquet", etag=etag, sequencer=sequencer)


def marker(folder: str = FOLDER, *, etag: str = "0xM") -> BlobVersion:
    blob = make_blob(f"{folder}/_SUCCESS", etag=etag)
    return BlobVersion(account=blob.account, container=blob.container, path=blob.path, etag=etag, size_bytes=0)


def land(world: World, *blobs: BlobVersion) -> None:
    """Upload and announce."""
    for blob in blobs:
        world.inputs.put(blob)
        world.deliver(blob)


def land_manifest(world: World, content: bytes, *, etag: str = "0xM", folder: str = FOLDER) -> BlobVersion:
    blob = make_blob(f"{folder}/files.json", etag=etag)
    world.inputs.put(blob, content=content)
    world.deliver(blob)
    return blob


def pass_time(world: World, seconds: float = 11) -> None:
    """Let time pass, and the dispatcher and the reconciler do what is due."""
    world.clock.advance(timedelta(seconds=seconds))
    world.work()
    reconcile(world.plane)
    world.work()


def files_of(world: World, run: Run) -> set[tuple[str, str]]:
    """Return names and ETags of the files that a run reads."""
    assert run.manifest is not None
    files = InputManifest.from_bytes(world.manifests.blobs[run.manifest.url]).files
    return {(file.blob.path.removeprefix("flights/new/"), file.blob.etag) for file in files}


def batches(world: World) -> list[set[str]]:
    """Return the names that each run reads, the first version first."""
    return [{name for name, _ in files_of(world, run)} for run in sorted(world.runs(), key=versions_before(world))]


def versions_before(world: World) -> Callable[[Run], int]:
    by_id = {run.id: run for run in world.runs()}

    def count(run: Run) -> int:
        return 0 if run.replaces is None else 1 + count(by_id[run.replaces])

    return count


def names(*parts: str, folder: str = FOLDER) -> set[str]:
    return {f"{folder}/{name}.parquet" for name in parts}


class TestMarker:
    """Readiness by a marker such as Spark's _SUCCESS."""

    def test_files_wait_for_their_marker_and_make_one_run(self) -> None:
        """R10: however long it takes, half a folder is never scored."""
        world = make_world(MARKER)
        land(world, part("a"), part("b"))
        pass_time(world, 3600)
        assert world.runs() == []
        assert world.arrival(part("a")).reason == "not_ready"

        land(world, marker())
        pass_time(world)

        assert batches(world) == [names("a", "b")]
        (run,) = world.runs()
        assert (run.consignment, run.replaces, run.arrival_count, run.state) == (PLACE, None, 2, RunState.SUBMITTED)
        assert world.tables.rows["pending"] == {}

    def test_a_marker_that_nobody_announced_is_found_where_it_lies(self) -> None:
        """What lay there before the events began comes by a backfill, which hands over files and no markers."""
        world = make_world(MARKER)
        world.inputs.put(marker())

        land(world, part("a"), part("b"))
        pass_time(world)

        assert batches(world) == [names("a", "b")]

    def test_the_marker_is_recorded_and_never_an_input(self) -> None:
        """An empty blob too, which is no file otherwise."""
        world = make_world(MARKER)

        land(world, marker(), part("a"))
        pass_time(world)

        arrival = world.arrival(marker())
        assert (arrival.state, arrival.pipeline, arrival.consignment) == (ArrivalState.SEAL, SCORING, PLACE)
        assert batches(world) == [names("a")]

    def test_a_marker_that_the_glob_wants_is_no_input_either(self) -> None:
        world = World(
            pipelines=make_pipelines(quiet=10, max_wait=60, glob="**", readiness='kind = "marker", name = "done.txt"')
        )

        land(world, make_blob("2013-07/done.txt"), part("a"))
        pass_time(world)

        assert batches(world) == [names("a")]

    def test_a_marker_whose_event_comes_before_those_of_the_files_waits_for_quiet(self) -> None:
        """Event Grid does not keep the order."""
        world = make_world(MARKER, quiet=10)
        land(world, marker())
        pass_time(world, 5)
        land(world, part("a"))
        pass_time(world, 6)
        assert world.runs() == []
        land(world, part("b"))

        pass_time(world, 11)

        assert batches(world) == [names("a", "b")]

    def test_two_folders_never_share_a_run(self) -> None:
        world = make_world(MARKER)
        for folder in ("2013-07", "2013-08", "2013-08/late"):
            land(world, part("a", folder=folder), part("b", folder=folder))
        land(world, marker("2013-07"), marker("2013-08"))

        pass_time(world)

        assert sorted(map(sorted, batches(world))) == [
            sorted(names("a", "b", folder="2013-07")),
            sorted(names("a", "b", folder="2013-08")),
        ]
        assert {world.arrival(part("a", folder="2013-08/late")).state} == {ArrivalState.HELD}

    def test_files_beside_the_prefix_itself_are_a_folder_too(self) -> None:
        world = make_world(MARKER)
        land(world, make_blob("a.parquet"), make_blob("_SUCCESS"))

        pass_time(world)

        assert batches(world) == [{"a.parquet"}]

    def test_the_reconciler_finds_a_complete_folder_whose_wake_up_was_lost(self) -> None:
        """The window lives in the ledger, not in a message or a process."""
        world = make_world(MARKER)
        land(world, part("a"), marker())
        world.queue.messages.clear()

        world.clock.advance(timedelta(seconds=11))
        reconcile(world.plane)
        world.work()

        assert batches(world) == [names("a")]

    def test_a_thousand_folders_that_wait_do_not_hide_one_that_is_complete(self) -> None:
        world = make_world(MARKER, max_files=5)
        for number in range(60):
            land(world, part("a", folder=f"waits-{number:04d}"))
        land(world, part("a"), marker())
        world.queue.messages.clear()

        for _ in range(3):
            world.clock.advance(timedelta(seconds=60))
            reconcile(world.plane)
            world.work()

        assert batches(world) == [names("a")]
        assert len(world.tables.rows["pending"]) == 60


class TestManifest:
    """Readiness by a list of the files."""

    @pytest.mark.parametrize(
        "content",
        [
            b'["a.parquet", "b.parquet"]',
            b'{"files": ["a.parquet", {"name": "b.parquet", "rows": 7}], "made_by": "x"}',
            b"a.parquet\r\n\n b.parquet \n",
            b'\xef\xbb\xbf["a.parquet", "b.parquet", "README.txt"]',
        ],
        ids=["list", "object", "text", "mark, and a file that no route wants"],
    )
    def test_all_files_of_the_list_make_one_run(self, content: bytes) -> None:
        world = make_world(MANIFEST, quiet=0)
        land(world, part("a"))
        manifest = land_manifest(world, content)
        pass_time(world)
        assert world.runs() == []

        land(world, part("b"))
        pass_time(world)

        assert batches(world) == [names("a", "b")]
        assert world.arrival(manifest).state is ArrivalState.SEAL

    def test_a_file_that_is_not_listed_waits_and_says_so(self) -> None:
        """R10: a manifest says what belongs to the folder."""
        world = make_world(MANIFEST, quiet=0)
        land(world, part("a"), part("x"))
        land_manifest(world, b'["a.parquet"]')
        pass_time(world)
        pass_time(world)
        assert batches(world) == [names("a")]
        assert world.arrival(part("x")).reason == "not_listed"

        land_manifest(world, b'["a.parquet", "x.parquet"]', etag="0xN")
        pass_time(world)

        assert batches(world) == [names("a"), names("a", "x")]

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"\xff\xfe", "JSON or lines of UTF-8"),
            (b"[" * 100_000, "JSON or lines of UTF-8"),
            (b'["../other/a.parquet"]', "the name of a file beside the manifest"),
            (b'["/etc/passwd", ".."]', "the name of a file beside the manifest"),
            (b'{"fils": []}', "expected a list of names"),
            (b"", "got 0 names, expected 1 to 50000 names"),
            (b'["README.txt"]', "none of its 1 names is one that a route wants"),
            (b"x" * (16 * 1024 * 1024 + 1), "at most 16777216"),
        ],
        ids=["binary", "deep", "path", "absolute", "key", "empty", "unwanted", "large"],
    )
    def test_a_list_that_cannot_be_read_holds_its_files_and_says_why(self, content: bytes, why: str) -> None:
        """It is text that anybody may have written: bounded, and refused precisely."""
        world = make_world(MANIFEST, quiet=0)
        land(world, part("a"))
        land_manifest(world, content)

        pass_time(world)

        assert world.runs() == []
        reason = world.arrival(part("a")).reason or ""
        assert reason.startswith("bad_manifest: ")
        assert why in reason

        land_manifest(world, b'["a.parquet"]', etag="0xN")
        pass_time(world)

        assert batches(world) == [names("a")]


class TestCount:
    """Readiness by a number of files."""

    def test_so_many_files_make_one_run_at_once(self) -> None:
        """R10: an expected count."""
        world = make_world(COUNT, quiet=0)
        land(world, part("a"), part("b"))
        pass_time(world)
        assert world.runs() == []

        land(world, part("c"))
        world.work()

        assert batches(world) == [names("a", "b", "c")]

    def test_an_overwritten_file_counts_once_and_only_its_newest_version_is_read(self) -> None:
        world = make_world(COUNT, quiet=0)
        old = part("a", etag="0x1")
        land(world, old, part("b"))
        world.clock.advance(timedelta(seconds=1))
        newest = part("a", etag="0x2")
        world.inputs.put(newest)
        arrive(world.plane, blob_message(newest, at=world.clock.now()))
        pass_time(world)
        assert world.runs() == []

        land(world, part("c"))
        pass_time(world)

        (run,) = world.runs()
        assert files_of(world, run) == {
            (f"{FOLDER}/{name}.parquet", etag) for name, etag in [("a", "0x2"), ("b", "0x1"), ("c", "0x1")]
        }
        assert world.arrival(old).state is ArrivalState.SUPERSEDED
        assert world.tables.rows["pending"] == {}


class TestTimeout:
    """What becomes of a folder that is never complete."""

    def test_it_starts_with_what_is_there_if_the_pipeline_says_so(self) -> None:
        world = make_world(f'{COUNT}, on_timeout = "start"', quiet=10, max_wait=60)
        land(world, part("a"))
        pass_time(world, 40)
        land(world, part("b"))
        pass_time(world, 15)
        assert world.runs() == []

        pass_time(world, 10)

        assert batches(world) == [names("a", "b")]

    def test_it_is_held_without_end_otherwise(self) -> None:
        world = make_world(COUNT, quiet=10, max_wait=60)
        land(world, part("a"))

        for _ in range(50):
            pass_time(world, 3600)

        assert world.runs() == []
        assert world.arrival(part("a")).state is ArrivalState.HELD
        assert world.queue.messages == []


LATE = 'late = "new_version"'


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


class TestConfigurationChanges:
    """Held files go on when the pipeline's readiness is edited."""

    def test_files_held_before_there_were_consignments_go_on(self) -> None:
        world = World(pipelines=make_pipelines(quiet=10, max_wait=60, glob="**/*.parquet"))
        land(world, part("a"))

        world.pipelines = pipelines_of(MARKER)
        world.plane = world.make_plane()
        pass_time(world)

        assert batches(world) == [names("a")]

    def test_files_of_a_consignment_go_on_without_it(self) -> None:
        world = make_world(MARKER)
        land(world, part("a"), part("b", folder="2013-08"))

        world.pipelines = make_pipelines(quiet=10, max_wait=60, glob="**/*.parquet")
        world.plane = world.make_plane()
        pass_time(world)

        assert batches(world) == [names("a") | names("b", folder="2013-08")]

    def test_a_consignment_waits_for_a_model(self) -> None:
        world = World(pipelines=pipelines_of(MARKER), model_version=None)
        land(world, part("a"), marker())
        pass_time(world)
        assert world.arrival(part("a")).reason == "no_model_yet"

        world.workspace.models["main.tidegate.flight_delay", "champion"] = "1"
        pass_time(world, 20)

        assert batches(world) == [names("a")]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), deaths=st.integers(0, 3))
def test_workers_at_once_freeze_one_version_after_the_other(seed: int, deaths: int) -> None:
    """I1, I2: late files arrive while three dispatchers and the reconciler freeze the same folder; some workers die."""
    order = Interleaving(seed, deaths=deaths)
    world = World(pipelines=pipelines_of(f"{MARKER}, {LATE}"), faults=order)
    order.on_turn = lambda chance: world.clock.advance(timedelta(seconds=chance.choice([0, 0, 0, 2, 7])))
    land(world, part("a"), part("b"), marker())
    world.clock.advance(timedelta(seconds=11))
    late = [part("c"), part("d")]
    for blob in late:
        world.inputs.put(blob)

    order.run(
        [
            *[lambda: close_pipeline_batch(world.make_plane(), SCORING, PLACE)] * 3,
            lambda: reconcile(world.make_plane()),
            *[lambda blob=blob: arrive(world.make_plane(), blob_message(blob)) for blob in late],
        ]
    )
    for blob in late:
        world.deliver(blob)
    for _ in range(30):
        pass_time(world, 20)

    assert [error for error in order.errors if not isinstance(error, LedgerConflictError)] == []
    assert world.tables.rows["pending"] == {}
    assert {run.state for run in world.runs()} == {RunState.SUBMITTED}
    assert len(world.databricks_runs()) == len(world.runs())
    frozen = {run.id: files_of(world, run) for run in world.runs()}
    for blob in (part("a"), part("b"), *late):
        arrival = world.arrival(blob)
        assert arrival.state is ArrivalState.ASSIGNED
        assert arrival.run_id is not None
        assert (blob.path.removeprefix("flights/new/"), blob.etag) in frozen[arrival.run_id]
    assert batches(world)[-1] == names("a", "b", "c", "d")
    assert all(earlier < later for earlier, later in zip(batches(world), batches(world)[1:], strict=False))
