"""What the release before wrote is read, moved when it is met, and moved in the background, while work goes on.

`tests/support/ledger_layout_1.json` was written by the last release with layout 1: a scored run of two files, one of
them delivered twice; a run that Databricks has; a file that is held, delivered twice; one that is ignored.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.ledger_upkeep import migrate, status_document
from functions.adapters.ledger_layout import place_of
from functions.core.errors import InvalidDocumentError, LedgerUnavailableError
from functions.core.ledger_rows import arrival_from_row
from functions.core.model import ArrivalState, DatabricksRunId, JobKey, Outcome
from functions.core.row_fields import SCHEMA_VERSION
from functions.services.reconcile import reconcile
from tests.support.control_plane import MODEL, SCORING, World, make_blob, make_pipelines
from tests.support.fault_walk import CrashAt, FailAt, ProcessDiedError
from tests.support.in_memory import DatabricksRun, Faults, InMemoryTables, InMemoryWorkspace, make_ledger

OLD: dict[str, Any] = json.loads((Path(__file__).parents[1] / "support" / "ledger_layout_1.json").read_text())
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def restore(tables: InMemoryTables) -> None:
    """Put the old rows there, each with the version that the index's copies name."""
    for name, rows in OLD["tables"].items():
        for row in rows:
            values = dict(row["values"])
            if "arrival_version" in values:
                values["arrival_version"] = f"old {values['arrival_version']}"
            tables.restore(name, row["partition"], row["key"], values, f"old {row['version']}")


@dataclass
class OldWorld(World):
    """A world whose ledger was written by the release before."""

    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        super().__post_init__()
        restore(self.tables)
        self.manifests.blobs = {url: text.encode() for url, text in OLD["manifests"].items()}
        self.clock.advance(timedelta(minutes=20))
        running = next(run for run in self.runs() if run.databricks_run_id is not None and run.outcome is None)
        assert running.token is not None
        assert running.databricks_run_id is not None
        parameters = {
            "run_id": running.id,
            "attempt": "1",
            "token": running.token,
            "pipeline": running.pipeline,
            "kind": "scoring",
            "environment": "local",
            "model_name": running.model_name,
            "model_version": "7",
            "manifest_url": "" if running.manifest is None else running.manifest.url,
            "manifest_sha256": "" if running.manifest is None else running.manifest.sha256,
            "batch_id": running.batch_id,
            "output_url": running.output_url,
            "traceparent": running.traceparent or "",
        }
        self.workspace = InMemoryWorkspace(faults=self.faults, first_id=2001)  # none of the old ids comes again
        self.workspace.models[MODEL, "champion"] = "7"
        databricks_run = DatabricksRun(
            DatabricksRunId(running.databricks_run_id), JobKey("scoring"), running.token, parameters
        )
        self.workspace.runs[databricks_run.id] = databricks_run
        self.plane = self.make_plane()


@pytest.fixture
def world() -> OldWorld:
    return OldWorld(pipelines=make_pipelines(quiet=30, max_wait=60))


def states_of(world: World) -> dict[str, tuple[ArrivalState, int]]:
    """Return state and deliveries of every arrival, as the ledger tells them."""
    arrivals = world.ledger.arrivals(
        [SCORING, None], since=NOON - timedelta(days=1), until=NOON + timedelta(days=1), limit=100
    )
    entries = [world.ledger.get_arrival(arrival.blob) for arrival in arrivals]
    return {
        entry.value.blob.path.rpartition("/")[2]: (entry.value.state, entry.value.deliveries)
        for entry in entries
        if entry is not None
    }


def bring_up_to_date(world: World) -> None:
    for _ in range(50):
        if world.ledger.bring_up_to_date(limit=2).is_complete:
            return
    raise AssertionError("it never ends")


def test_the_fixture_is_of_the_old_layout() -> None:
    rows = OLD["tables"]["arrivals"]

    assert {row["values"]["schema"] for row in rows + OLD["tables"]["runs"]} == {1}
    assert [(row["partition"], row["key"]) == place_of(arrival_from_row(row["values"]).blob) for row in rows] == [
        False
    ] * 5


def test_a_redelivery_of_an_old_arrival_starts_nothing(world: OldWorld) -> None:
    """An event that was recorded before the new release is the same arrival after it."""
    world.deliver(make_blob("scored-1.parquet", sequencer="0001"))
    world.settle_submissions()

    known = world.ledger.get_arrival(make_blob("scored-1.parquet", sequencer="0001"))
    assert known is not None
    assert (known.value.state, known.value.deliveries) == (ArrivalState.SCORED, 3)
    assert not any("scored-1" in blob.path for run in world.runs()[2:] for blob in world.ledger.arrivals_of_run(run))


def test_an_old_held_arrival_gets_its_run(world: OldWorld) -> None:
    """Its row has moved since the index was written, which the claim notices and makes good."""
    world.settle_submissions()

    held = world.arrival(make_blob("held.parquet", sequencer="0002"))
    assert held.state is ArrivalState.ASSIGNED
    assert len(world.runs()) == 3


def test_an_old_run_ends_and_marks_its_arrivals(world: OldWorld) -> None:
    (running,) = world.databricks_runs()

    world.finish(running)
    world.settle_submissions()

    assert world.arrival(make_blob("running.parquet")).state is ArrivalState.SCORED
    assert sorted(run.outcome or "" for run in world.runs()) == ["", Outcome.COMPLETED, Outcome.COMPLETED]


def test_an_old_version_of_a_path_is_superseded_by_a_new_one(world: OldWorld) -> None:
    """The table of known paths is new: an old path is in it before anyone asks."""
    world.deliver(make_blob("held.parquet", etag="0x2", sequencer="0003"))

    assert world.arrival(make_blob("held.parquet", sequencer="0002")).state is ArrivalState.SUPERSEDED


def test_the_background_pass_leaves_nothing_behind(world: OldWorld) -> None:
    bring_up_to_date(world)

    status = world.ledger.layout_status()
    arrivals = {place: arrival_from_row(values) for place, (values, _) in world.tables.rows["arrivals"].items()}
    assert (status.is_complete, status.seen, status.moved) == (True, status.seen, 7)
    assert all(place == place_of(arrival.blob) for place, arrival in arrivals.items())
    assert {values["schema"] for values, _ in world.tables.rows["runs"].values()} == {SCHEMA_VERSION}
    assert states_of(world) == {
        "scored-1.parquet": (ArrivalState.SCORED, 2),
        "scored-2.parquet": (ArrivalState.SCORED, 1),
        "running.parquet": (ArrivalState.ASSIGNED, 1),
        "held.parquet": (ArrivalState.HELD, 2),
        "notes.txt": (ArrivalState.IGNORED, 1),
    }


def test_the_command_brings_everything_up_to_date_and_says_how_far_it_is(
    world: OldWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    before = status_document(world.ledger.layout_status())

    after = status_document(migrate(world.ledger, is_quiet=False))

    assert before == {"layout": 2, "is_complete": False, "rows_seen": 0, "rows_moved": 0}
    assert (after["is_complete"], after["rows_moved"]) == (True, 7)
    assert "rows looked at" in capsys.readouterr().out
    assert status_document(migrate(world.ledger, is_quiet=True)) == after


def test_work_goes_on_between_the_steps(world: OldWorld) -> None:
    """The pass is the reconciler's, so events, batches and ends come in between any two of its steps."""
    for index in range(12):
        world.ledger.bring_up_to_date(limit=1)
        world.deliver(make_blob(f"new-{index}.parquet", sequencer="0001"))
        world.deliver(make_blob("scored-2.parquet", sequencer="0001"))
        if index == 3:
            (running, *_) = world.databricks_runs()
            world.finish(running)
        world.clock.advance(timedelta(seconds=40))
        world.work()
        reconcile(world.plane)

    world.settle_submissions()
    states = states_of(world)
    assert world.ledger.layout_status().is_complete
    assert len(states) == 17
    assert states["scored-2.parquet"] == (ArrivalState.SCORED, 13)
    assert (states["running.parquet"][0], states["held.parquet"][0]) == (ArrivalState.SCORED, ArrivalState.ASSIGNED)
    assert len({run.id for run in world.runs()}) == len(world.databricks_runs()) + 1


@pytest.mark.parametrize("fault", [CrashAt, FailAt], ids=["process dies", "call fails"])
def test_a_fault_anywhere_in_the_pass_changes_nothing_of_its_result(fault: type[CrashAt] | type[FailAt]) -> None:
    undisturbed = OldWorld(pipelines=make_pipelines(quiet=30, max_wait=60))
    bring_up_to_date(undisturbed)

    at = 0
    while True:
        at += 1
        faults = fault(at=at)
        world = OldWorld(pipelines=make_pipelines(quiet=30, max_wait=60), faults=faults)
        for _ in range(3):
            try:
                bring_up_to_date(world)
            except (ProcessDiedError, LedgerUnavailableError):
                world.ledger = make_ledger(world.tables)
        if not faults.where:
            break
        assert states_of(world) == states_of(undisturbed), faults.where
        for name in ("arrivals", "runs", "paths", "timeline", "pending"):
            assert world.tables.rows[name].keys() == undisturbed.tables.rows[name].keys(), (name, faults.where)

    assert at > 20


def test_a_new_ledger_never_looks_for_an_older_layout() -> None:
    world = World()

    world.deliver(make_blob())

    assert world.ledger.layout_status().is_complete
    assert all(len(partition.rpartition(".")[2]) == 8 for partition, _ in world.tables.rows["arrivals"])


def test_a_ledger_of_a_later_release_is_refused() -> None:
    world = World()
    world.deliver(make_blob())
    ((place, (values, version)),) = [
        item for item in world.tables.rows["marks"].items() if item[0] == ("layout", "ledger")
    ]
    world.tables.rows["marks"][place] = ({**values, "layout": 3}, version)

    with pytest.raises(InvalidDocumentError, match="a later release"):
        make_ledger(world.tables).layout_status()
