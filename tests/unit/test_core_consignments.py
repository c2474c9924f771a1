"""Tests when files of one folder are complete, and what late ones come to, as pure decisions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.consignments import (
    Complete,
    Facts,
    Late,
    consignment_of,
    find_seal,
    judge_consignment,
    newest_of_each_path,
    run_id_of_consignment,
)
from functions.core.decided import Hold
from functions.core.errors import InvalidDocumentError
from functions.core.file_lists import MOST_BYTES, parse_file_list
from functions.core.ledger import Arrival
from functions.core.model import ArrivalState, BlobVersion, PipelineKey, RunId
from functions.core.pipelines import Pipeline
from functions.core.reasons import HoldReason
from functions.core.tokens import arrival_id_of, cause_time_of
from tests.support.control_plane import SCORING, make_pipelines

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FOLDER = "flights/new/2013-07/"


def pipeline_of(readiness: str, **window: int) -> Pipeline:
    quiet = window.get("quiet", 10)
    return make_pipelines(quiet=quiet, max_wait=60, readiness=readiness).get(SCORING)


MARKER = pipeline_of('kind = "marker"')
MANIFEST = pipeline_of('kind = "manifest", name = "files.json"')
COUNT = pipeline_of('kind = "count", count = 2')
STARTS = pipeline_of('kind = "count", count = 2, on_timeout = "start"')
STRICT = pipeline_of('kind = "marker", late = "quarantine"')


def blob(name: str, etag: str = "0x1", **changes: Any) -> BlobVersion:
    version = BlobVersion(
        account="tidegatelocal", container="input", path=FOLDER + name, etag=etag, size_bytes=9, sequencer=None
    )
    return replace(version, **changes)


def arrival(name: str, etag: str = "0x1", *, at: datetime = NOON, **changes: Any) -> Arrival:
    version = blob(name, etag)
    held = Arrival(
        id=arrival_id_of(version),
        blob=version,
        state=ArrivalState.HELD,
        event_id="e",
        event_time=at,
        api="PutBlob",
        content_type="",
        recorded_at=at,
        updated_at=at,
        pipeline=SCORING,
        consignment=consignment_of(version.container, version.path),
    )
    return replace(held, **changes)


def judge(pipeline: Pipeline, *held: Arrival, after_s: float = 11, **facts: Any) -> Complete | Late | Hold:
    return judge_consignment(pipeline, held, Facts(**facts), now=NOON + timedelta(seconds=after_s))


def names(verdict: Complete | Late | Hold) -> list[str]:
    assert not isinstance(verdict, Hold), verdict
    return sorted(item.blob.path.removeprefix(FOLDER) + item.blob.etag[2:] for item in verdict.arrivals)


def waits(verdict: Complete | Late | Hold) -> tuple[HoldReason, float, str]:
    assert isinstance(verdict, Hold), verdict
    return verdict.reason, verdict.wait_s, verdict.detail


A, B = arrival("a"), arrival("b")
LISTED = frozenset({FOLDER + "a", FOLDER + "b"})


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (judge(MARKER, A), (HoldReason.NOT_READY, 0.0, "no '_SUCCESS' yet")),
        (judge(MARKER, A, sealed_at=NOON, after_s=4), (HoldReason.WINDOW_OPEN, 6.0, "")),
        (judge(MARKER, A, sealed_at=NOON + timedelta(seconds=9)),
         (HoldReason.WINDOW_OPEN, 8.0, "")),
        (judge(COUNT, A), (HoldReason.NOT_READY, 0.0, "1 of 2 files")),
        (judge(MANIFEST, A, B), (HoldReason.NOT_READY, 0.0, "no 'files.json' yet")),
        (judge(MANIFEST, A, B, problem="no list"), (HoldReason.BAD_MANIFEST, 0.0, "no list")),
        (judge(MANIFEST, A, listed=LISTED), (HoldReason.NOT_READY, 0.0, "1 of 2 missing: 'b'")),
        (judge(MANIFEST, arrival("x"), listed=LISTED, frozen=(blob("a"), blob("b"))), (HoldReason.NOT_LISTED, 0.0, "")),
        (judge(STARTS, A, after_s=50), (HoldReason.NOT_READY, 10.0, "1 of 2 files")),
    ],
)  # fmt: skip
def test_what_is_not_complete_waits_and_says_for_what(
    verdict: Complete | Late | Hold, expected: tuple[HoldReason, float, str]
) -> None:
    assert waits(verdict) == expected


TOMORROW = NOON + timedelta(days=1)


@pytest.mark.parametrize("pipeline", [MARKER, STARTS])
def test_a_clock_that_was_a_day_ahead_does_not_hold_a_folder_for_a_day(pipeline: Pipeline) -> None:
    """R10: storage's own time stands in for what cannot be, and the window is as long as ever."""
    ahead = replace(A, recorded_at=TOMORROW)

    early = judge(pipeline, ahead, sealed_at=TOMORROW, after_s=9)
    due = judge(pipeline, ahead, sealed_at=TOMORROW, after_s=60)

    assert waits(early)[1] == (1 if pipeline is MARKER else 51)
    assert names(due) == ["a1"]


def test_clocks_that_differ_by_minutes_are_believed() -> None:
    """A marker's event may come before those of its files, so a folder is sooner late than half."""
    late = NOON + timedelta(minutes=5)

    assert waits(judge(MARKER, A, sealed_at=late, after_s=0))[1] == 310
    assert waits(judge(MARKER, replace(A, recorded_at=late), sealed_at=NOON, after_s=0))[1] == 310


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (judge(MARKER, A, B, sealed_at=NOON), ["a1", "b1"]),
        (judge(COUNT, A, B), ["a1", "b1"]),
        (judge(COUNT, A, B, arrival("c")), ["a1", "b1", "c1"]),
        (judge(MANIFEST, A, B, arrival("x"), listed=LISTED), ["a1", "b1"]),
        (judge(STARTS, A, after_s=60), ["a1"]),
        (judge(MARKER, A, arrival("a", "0x2", at=NOON + timedelta(seconds=1)), sealed_at=NOON, after_s=12), ["a2"]),
        # A late file needs no seal of its own.
        (judge(MARKER, arrival("c"), frozen=(blob("a"),)), ["c1"]),
        (judge(COUNT, arrival("c"), frozen=(blob("a"), blob("b"))), ["c1"]),
        (judge(MANIFEST, B, listed=LISTED, frozen=(blob("a"),)), ["b1"]),
    ],
)
def test_what_is_complete_makes_a_run(verdict: Complete | Late | Hold, expected: list[str]) -> None:
    assert isinstance(verdict, Complete)
    assert names(verdict) == expected


def test_a_new_version_keeps_the_files_that_nothing_replaces_and_that_are_still_listed() -> None:
    verdict = judge(MARKER, arrival("a", "0x2"), frozen=(blob("a"), blob("b")))
    listed = judge(MANIFEST, B, listed=LISTED, frozen=(blob("a"), blob("old")))

    assert isinstance(verdict, Complete)
    assert verdict.kept == (blob("b"),)
    assert isinstance(listed, Complete)
    assert listed.kept == (blob("a"),)


def test_late_files_are_refused_by_policy_but_for_those_that_a_person_replayed() -> None:
    late = arrival("c")
    replayed = arrival("d").ignore(NOON, "late").replay(SCORING, NOON, "replayed")

    verdict = judge(STRICT, late, replayed, frozen=(blob("a"),))
    alone = judge(STRICT, replayed, frozen=(blob("a"),))

    assert isinstance(verdict, Late)
    assert names(verdict) == ["c1"]
    assert isinstance(alone, Complete)
    assert names(alone) == ["d1"]


def test_more_files_than_a_run_may_read_wait() -> None:
    held = tuple(arrival(str(number)) for number in range(50_001))

    assert waits(judge(COUNT, *held)) == (HoldReason.TOO_MANY_FILES, 0.0, "50001, at most 50000")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("123")), max_size=8))
def test_one_version_of_each_path_is_left(found: list[tuple[str, str]]) -> None:
    arrivals = [
        arrival(name, f"0x{etag}", at=NOON + timedelta(seconds=order)) for order, (name, etag) in enumerate(found)
    ]

    newest = newest_of_each_path(arrivals)

    assert {path.removeprefix(FOLDER): item.blob.etag for path, item in newest.items()} == {
        name: f"0x{etag}" for name, etag in found
    }


@pytest.mark.parametrize(
    ("path", "is_seal"),
    [
        ("flights/new/2013-07/_SUCCESS", True),
        ("flights/new/_SUCCESS", True),
        ("flights/_SUCCESS", False),
        ("flights/new/x_SUCCESS", False),
        ("flights/new/_SUCCESS/x", False),
        ("_SUCCESS", False),
    ],
)
def test_a_seal_is_the_name_in_a_folder_of_a_route(path: str, *, is_seal: bool) -> None:
    pipelines = make_pipelines(quiet=10, max_wait=60, readiness='kind = "marker"')

    found = find_seal(blob("", path=path), pipelines)

    assert (found is not None) == is_seal
    assert find_seal(blob("", path=path, container="other"), pipelines) is None


def test_versions_of_a_consignment_are_different_runs() -> None:
    """The same file again in a new version must not be taken for the old run."""
    ids = {
        run_id_of_consignment(SCORING, place, version, [A], first_event_time=NOON)
        for place in ("input/x/", "input/y/")
        for version in (1, 2)
    }

    assert len(ids) == 4


def test_a_run_is_found_at_the_time_in_its_name() -> None:
    run_id = RunId("p-20260301T120000Z-0123456789ab")

    assert cause_time_of(run_id, NOON.replace(microsecond=5)) == NOON.replace(microsecond=5)
    assert cause_time_of(run_id, NOON + timedelta(seconds=3)) == NOON
    assert consignment_of("input", "a") == "input/"
    assert PipelineKey("p") == "p"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'["a", "b", "a"]', {"a", "b"}),
        (b'{"files": [{"name": "a", "size": 1}, "b"]}', {"a", "b"}),
        (b"a\nb\r\n\n  c \rd", {"a", "b", "c", "d"}),
        ("naïve 日本語#1%.csv\n".encode(), {"naïve 日本語#1%.csv"}),
        (b" [] x", None),
        (b"[]", None),
        (b"  \n ", None),
        (b'["a", 3, null, {}, "", "x/y", "..", "a\\u0000b"]', None),
        (b'{"files": 3}', None),
        (b"a\x00b", None),
        (b"\xff", None),
        (b"x" * (MOST_BYTES + 1), None),
        (b"\n".join(b"%d" % number for number in range(50_001)), None),
    ],
)
def test_a_file_list_is_read_or_refused(content: bytes, found: set[str] | None) -> None:
    if found is None:
        with pytest.raises(InvalidDocumentError) as refused:
            parse_file_list(content)
        assert 1 <= len(refused.value.problems) <= 20
    else:
        assert parse_file_list(content) == found


@given(content=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_content_is_a_list_or_refused(content: bytes) -> None:
    """Fuzz: no crash, and no name that leaves the folder, whatever a producer wrote."""
    try:
        found = parse_file_list(content)
    except InvalidDocumentError:
        return
    assert found
    assert all(name not in {"", ".", ".."} and "/" not in name and name.isprintable() is not None for name in found)
