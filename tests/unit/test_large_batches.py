"""Tests batches of the largest size: 50,000 files are frozen and read again, and the parameters stay small."""

import time
from datetime import timedelta

import pytest

from functions.core.batching import close_batch
from functions.core.decided import Situation, StartRun
from functions.core.freezing import Frozen, freeze, parameters_of
from functions.core.ledger import Arrival
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalState, RunState
from functions.core.parameters import MAX_PARAMETERS_BYTES, size_of
from functions.core.tokens import arrival_id_of
from functions.services.closing import close_pipeline_batch
from tests.support.control_plane import ACCOUNT, SCORING, World, make_blob, make_pipelines

MOST_FILES = 50_000
CPU_SECONDS = 60  # several times what it takes; the host ends a function after five minutes
NOON = World().clock.now()


def held_arrival(number: int, *, consignment: str = "") -> Arrival:
    name = f"2013-07/part-{number:05d}-{'x' * 80}.parquet"
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
    assert len(content) < 64 * 1024 * 1024  # what the manifest store reads at most
    assert size_of(parameters_of(frozen.run)) < MAX_PARAMETERS_BYTES / 4


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
