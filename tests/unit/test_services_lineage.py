"""Tests that a blob is followed to its runs however they came to read it, with no more reading than that takes."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from functions.core.access import Actor
from functions.core.errors import LedgerUnavailableError, NotFoundError
from functions.core.ledger import Run
from functions.core.listing import parse_blob_place
from functions.core.model import BlobVersion
from functions.services.lineage import show_lineage
from functions.services.pausing import pause_pipeline
from functions.services.requests import request_run
from tests.support.control_plane import SCORING, TRAINING, World, make_blob, make_pipelines
from tests.support.in_memory import Faults


def place_of(url: str) -> tuple[str, str, str]:
    place = parse_blob_place(url)
    assert place is not None
    return place


def follow(world: World, blob: BlobVersion | str) -> dict[str, list[dict[str, object]]]:
    document = show_lineage(world.plane, place_of(blob if isinstance(blob, str) else blob.url))
    return cast("dict[str, list[dict[str, object]]]", document)


def ids(runs: list[dict[str, object]]) -> list[object]:
    return [run["id"] for run in runs]


def manifests_read(world: World) -> int:
    return world.manifests.calls.counts["manifests.read"]


def ask_for(world: World, document: dict[str, object]) -> Run:
    run = request_run(world.plane, json.dumps(document).encode(), idempotency_key="asked")
    assert isinstance(run, Run)
    return run


def test_training_data_leads_to_the_run_that_read_it() -> None:
    """No arrival brought it to the run; only the run's manifest tells."""
    world, blob = World(), replace(make_blob(), path="flights/history/2013-01.parquet")
    world.inputs.put(blob)
    run = ask_for(world, {"pipeline": TRAINING})

    found = follow(world, blob)

    assert (found["arrivals"], ids(found["runs"]), found["made_by"]) == ([], [run.id], [])
    assert found["runs"][0]["inputs"] == [{"url": blob.url, "etag": "0x1", "arrival_id": None}]


def test_a_file_leads_to_the_run_that_it_brought_and_to_the_one_that_was_asked_for() -> None:
    world = World()
    world.inputs.put(make_blob())
    world.deliver(make_blob())
    (brought,) = world.runs()
    world.clock.advance(timedelta(minutes=1))
    asked = ask_for(world, {"pipeline": SCORING, "files": [make_blob().url]})

    found = follow(world, make_blob())

    assert ids(found["runs"]) == [asked.id, brought.id]


def test_versions_of_a_blob_are_told_in_the_order_in_which_they_came() -> None:
    world = World()
    for etag in ("0x1", "0x2"):
        world.deliver(make_blob(etag=etag), at=world.clock.now())
        world.clock.advance(timedelta(minutes=1))

    found = follow(world, make_blob())

    assert [arrival["etag"] for arrival in found["arrivals"]] == ["0x1", "0x2"]
    assert [arrival["run_id"] for arrival in found["arrivals"]] == ids(found["runs"])[::-1]


def test_only_manifests_that_have_something_to_tell_are_read() -> None:
    """Every file of these runs has its arrival in the run's row: of five runs, the one that is shown is read."""
    world = World()
    for number in range(5):
        world.deliver(make_blob(f"{number}.parquet"))
    before = manifests_read(world)

    found = follow(world, make_blob("3.parquet"))

    assert len(found["runs"]) == 1
    assert manifests_read(world) - before == 1


def test_a_file_of_a_large_batch_leads_to_its_run() -> None:
    """A run's row keeps 200 arrivals; the others name their run themselves."""
    world = World(pipelines=make_pipelines(quiet=10, max_wait=60))
    for number in range(203):
        world.deliver(make_blob(f"{number:03}.parquet"))
    world.settle_submissions()
    (run,) = world.runs()
    last = next(arrival.blob for arrival in world.arrivals() if arrival.id not in run.arrivals)

    found = follow(world, last)

    assert ids(found["runs"]) == [run.id]
    assert len(cast("list[object]", found["runs"][0]["inputs"])) == 203


def test_a_run_of_long_ago_is_found_by_its_file_and_not_by_its_scores() -> None:
    """The arrival names its run; for what a run wrote, runs of the last year are looked through."""
    world = World()
    world.deliver(make_blob())
    (run,) = world.runs()
    world.clock.advance(timedelta(days=400))

    found = follow(world, make_blob())

    assert ids(found["runs"]) == [run.id]
    with pytest.raises(NotFoundError):
        follow(world, run.output_url)


def test_scores_lead_to_their_run_and_what_is_only_called_like_them_does_not() -> None:
    world = World()
    world.deliver(make_blob())
    (run,) = world.runs()

    found = follow(world, f"{run.output_url}/part-0.parquet")

    assert ids(found["made_by"]) == [run.id]
    assert ids(follow(world, run.output_url)["made_by"]) == [run.id]
    with pytest.raises(NotFoundError):
        follow(world, f"{run.output_url}0/part-0.parquet")


def test_a_run_whose_manifest_is_gone_is_shown_without_its_files() -> None:
    world = World()
    world.deliver(make_blob())
    world.manifests.blobs.clear()

    found = follow(world, make_blob())

    assert [run["inputs"] for run in found["runs"]] == [[]]
    assert found["runs"][0]["manifest_url"] is not None


def test_a_file_that_waits_says_why() -> None:
    world = World()
    pause_pipeline(world.plane, SCORING, Actor(name="ada"))
    world.deliver(make_blob())

    found = follow(world, make_blob())

    assert [(arrival["state"], arrival["waits"]) for arrival in found["arrivals"]] == [("held", "paused")]
    assert found["runs"] == []


def test_storage_that_does_not_answer_is_not_taken_for_a_run_without_files() -> None:
    class Silent(Faults):
        def before(self, call: str) -> None:
            if call == "manifests.read":
                raise LedgerUnavailableError(call, "scripted")

    world = World(faults=Silent())
    world.deliver(make_blob())

    with pytest.raises(LedgerUnavailableError):
        follow(world, make_blob())
