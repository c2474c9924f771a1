"""Tests folders of files that make sense only together: one run each, once they are complete."""

from datetime import timedelta

import pytest

from functions.core.model import ArrivalState, RunState
from functions.core.work import WorkItem, WorkKind
from functions.services.arrive import arrive
from functions.services.dispatch import dispatch
from functions.services.reconcile import reconcile
from tests.support.consignments import (
    COUNT,
    FOLDER,
    MANIFEST,
    MARKER,
    PLACE,
    batches,
    files_of,
    land,
    land_manifest,
    make_world,
    marker,
    names,
    part,
    pass_time,
)
from tests.support.control_plane import SCORING, World, blob_message, make_blob, make_pipelines


class TestMarker:
    """Readiness by a marker such as Spark's _SUCCESS."""

    def test_a_marker_that_comes_long_after_its_files_starts_them_without_the_reconciler(self) -> None:
        """R10: nobody looks at a folder any more that waits for nothing but its marker."""
        world = make_world(MARKER)
        land(world, part("a"), part("b"))
        world.clock.advance(timedelta(seconds=11))
        world.work()
        assert world.queue.messages == []

        land(world, marker())
        world.clock.advance(timedelta(seconds=11))
        world.work()

        assert batches(world) == [names("a", "b")]

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


@pytest.mark.parametrize("readiness", [MARKER, MANIFEST, COUNT])
def test_a_look_at_a_folder_without_files_finds_nothing(readiness: str) -> None:
    """Its wake-up was late, or a person has moved its files: that is no failure, even if it starts incomplete."""
    world = make_world(f'{readiness}, on_timeout = "start"')
    item = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=SCORING, consignment=PLACE)

    dispatch(world.plane, item.to_json())

    assert (world.runs(), world.queue.messages) == ([], [])
