"""Tests batches of the largest size: 50,000 files are frozen and read again, and the parameters stay small."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from functions.core.batching import close_batch
from functions.core.consignments import Facts, judge_consignment
from functions.core.decided import ArrivalsInput, Hold, Situation, StartRun
from functions.core.errors import InvalidRequestError
from functions.core.freezing import Frozen, freeze, parameters_of
from functions.core.ledger import Arrival
from functions.core.manifest import MAX_MANIFEST_BYTES, InputManifest
from functions.core.model import ArrivalState, RunState
from functions.core.parameters import MAX_PARAMETERS_BYTES, size_of
from functions.core.reasons import HoldReason
from functions.core.tokens import arrival_id_of
from functions.services.closing import close_pipeline_batch
from functions.services.requests import request_run
from tests.support.control_plane import ACCOUNT, SCORING, World, make_blob, make_pipelines

MOST_FILES = 50_000
CPU_SECONDS = 60  # several times what it takes; the host ends a function after five minutes
NOON = World().clock.now()


def held_arrival(number: int, *, consignment: str = "", padding: str = "x" * 80) -> Arrival:
    name = f"2013-07/part-{number:05d}-{padding}.parquet"
    blob = make_blob(name, etag=f"0x8D{number:012X}", sequencer=f"{number:050d}")
    return Arrival(
        id=arrival_id_of(blob),
        blob=blob,
        state=ArrivalState.HELD,
        event_id="e",
        event_time=NOON,
        api="PutBlob",
        content_type="",
        recorded_at=NOON,
        updated_at=NOON,
        pipeline=SCORING,
        route="new_flights",
        consignment=consignment,
    )


def test_fifty_thousand_files_are_frozen_and_read_in_bounded_time() -> None:
    """R11, R28: the list goes by reference with its hash, so the parameters are as short as for one file."""
    pipelines = make_pipelines(quiet=10, max_wait=60, max_files=MOST_FILES)
    situation = Situation(environment="local", account=ACCOUNT, model_version="7")
    held = [held_arrival(number) for number in range(MOST_FILES)]
    began = time.process_time()

    start = close_batch(pipelines.get(SCORING), held, pipelines, situation, now=NOON + timedelta(minutes=2))
    assert isinstance(start, StartRun)
    frozen = freeze(start, [arrival.blob for arrival in held], situation, now=NOON)
    assert isinstance(frozen, Frozen)
    content = frozen.manifest.to_bytes()
    read = InputManifest.from_bytes(content)

    assert time.process_time() - began < CPU_SECONDS
    assert read == frozen.manifest
    assert frozen.run.manifest is not None
    assert read.sha256() == frozen.run.manifest.sha256
    assert (frozen.run.file_count, frozen.run.arrival_count, len(frozen.run.arrivals)) == (MOST_FILES, MOST_FILES, 200)
    assert len(content) < MAX_MANIFEST_BYTES
    assert size_of(parameters_of(frozen.run)) < MAX_PARAMETERS_BYTES / 4


LONGEST = "😀" * 980  # with the rest of the path as many characters as a blob's name may have
TOO_MANY = 4_500  # of such files for the 64 MiB that one manifest may have


def test_a_batch_has_no_more_files_than_its_manifest_holds() -> None:
    """R11: far fewer than `max_files` when names are long; what is beyond stays held for the next batch."""
    pipelines = make_pipelines(quiet=10, max_wait=60, max_files=MOST_FILES)
    situation = Situation(environment="local", account=ACCOUNT, model_version="7")
    held = [held_arrival(number, padding=LONGEST) for number in range(TOO_MANY)]

    start = close_batch(pipelines.get(SCORING), held, pipelines, situation, now=NOON + timedelta(minutes=2))

    assert isinstance(start, StartRun)
    assert isinstance(start.input, ArrivalsInput)
    taken = [arrival.blob for arrival in start.input.arrivals]
    frozen = freeze(start, taken, situation, now=NOON)
    assert isinstance(frozen, Frozen)
    assert 0 < len(taken) < TOO_MANY
    assert 0.99 * MAX_MANIFEST_BYTES < len(frozen.manifest.to_bytes()) <= MAX_MANIFEST_BYTES


def test_a_consignment_beyond_one_manifest_is_held_and_says_why() -> None:
    """It makes sense whole or not at all, so none of it is cut off."""
    readiness = f'kind = "count", count = {TOO_MANY}'
    pipeline = make_pipelines(quiet=10, max_wait=60, glob="**", readiness=readiness).get(SCORING)
    held = [held_arrival(number, consignment="c/", padding=LONGEST) for number in range(TOO_MANY)]

    verdict = judge_consignment(pipeline, held, Facts(), now=NOON + timedelta(minutes=2))

    assert isinstance(verdict, Hold)
    assert verdict.reason is HoldReason.TOO_MANY_FILES
    assert verdict.detail == "4500, whose names are longer than the 64 MiB of one manifest"


def test_training_data_beyond_one_manifest_is_refused_before_anything_is_submitted() -> None:
    """A model of the first files only would be one of data that nobody chose."""
    world = World()
    for number in range(TOO_MANY):
        blob = held_arrival(number, padding=LONGEST).blob
        world.inputs.put(replace(blob, path=blob.path.replace("flights/new/", "flights/history/")))

    with pytest.raises(InvalidRequestError, match="names that fit into one manifest of 64 MiB"):
        request_run(world.plane, b'{"pipeline": "flight_delay_training"}', idempotency_key="k")

    assert world.runs() == []
    assert world.databricks_runs() == []


@pytest.mark.parametrize(
    ("readiness", "consignment"),
    [('kind = "none"', ""), ('kind = "count", count = {count}', "input/flights/new/2013-07/")],
    ids=["window", "consignment"],
)
def test_the_ledger_is_asked_in_proportion_to_the_files(readiness: str, consignment: str) -> None:
    """Twice the files, at most twice the requests: claiming and tidying are not quadratic."""
    asked = []
    for count in (500, 1000):
        world = World(
            pipelines=make_pipelines(
                quiet=10, max_wait=60, max_files=count, glob="**/*.parquet", readiness=readiness.format(count=count)
            )
        )
        for number in range(count):
            world.ledger.record_arrival(held_arrival(number, consignment=consignment))
        world.clock.advance(timedelta(seconds=61))
        before = sum(world.tables.calls.counts.values())

        close_pipeline_batch(world.plane, SCORING, consignment)

        asked.append(sum(world.tables.calls.counts.values()) - before)
        (run,) = world.runs()
        assert (run.state, run.file_count) == (RunState.SUBMITTED, count)
        assert world.tables.rows["pending"] == {}

    assert asked[1] <= 2 * asked[0]
    assert asked[1] <= 3 * 1000  # a row replaced and an index row deleted for each, and what a run costs
