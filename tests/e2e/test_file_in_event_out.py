"""A file lands, scores and one completion event come out; repeats, broken files and strangers do what they should."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa  # type: ignore[import-untyped] # it ships no types
import pytest

from functions.core.ledger import Arrival
from functions.core.model import ArrivalState, Outcome
from local.demo_data.files import to_parquet
from local.demo_data.flights import month_of
from local.supervisor.folders import REPOSITORY
from local.supervisor.settings import SCORES_CONTAINER
from tests.support.whole_cloud import SCORING, WholeCloud, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

CONTRACTS = REPOSITORY / "docs" / "contracts"


def contract(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(Path(CONTRACTS / f"{name}.schema.json").read_text())
    return schema


def output_prefix(output_url: str) -> str:
    return output_url.split(f"/{SCORES_CONTAINER}/", 1)[1]


def test_a_file_becomes_scores_and_one_completion_event(world: WholeCloud) -> None:
    """One upload: one Databricks run, scores that add up, one announcement, all of it in one trace."""
    path = "flights/new/whole-loop.parquet"

    etag = world.upload(path, world.month(6, rows=3000))
    run = world.ended(world.run_of(path, etag))

    assert run.outcome is Outcome.COMPLETED, run.reason
    assert len(world.databricks_runs(run)) == 1
    assert world.settled(path, etag).state is ArrivalState.SCORED
    manifest = json.loads(world.read(f"{output_prefix(run.output_url)}/_manifest.json"))
    jsonschema.validate(manifest, contract("scores-manifest"))
    assert manifest["rows_in"] == 3000
    assert manifest["rows_scored"] + manifest["rows_quarantined"] == 3000
    assert {name for name in world.blobs(output_prefix(run.output_url)) if name.endswith(".parquet")} == {
        item["url"].split(f"/{SCORES_CONTAINER}/", 1)[1] for item in manifest["files"] + manifest["quarantine_files"]
    }
    events = wait_for(lambda: world.completion_events(run) or None, "the completion event")
    assert {event["id"] for event in events} == {f"{run.id}.1.completed"}
    jsonschema.validate(events[0], contract("completion-event"))
    assert run.traceparent is not None
    trace_id = run.traceparent.split("-")[1]
    assert events[0]["traceparent"].split("-")[1] == trace_id
    wanted = {"arrival", "stage validation", "stage batch_scoring", "stage publish", "announce", "completion"}
    assert wait_for(lambda: spans_of(world, trace_id, wanted), "one trace from arrival to completion") >= wanted


def spans_of(world: WholeCloud, trace_id: str, wanted: set[str]) -> set[str] | None:
    """Return the names of the spans of one trace once the wanted ones are among them."""
    url = f"{world.settings.url('app_insights')}/telemetry?operation_id={trace_id}"
    with urllib.request.urlopen(url, timeout=30) as response:
        items = json.load(response)
    names = {str(item["name"]) for item in items if item["itemType"] in {"request", "dependency"}}
    return names if names >= wanted else None


def test_redeliveries_start_nothing(world: WholeCloud) -> None:
    """However often Event Grid delivers an event, its file is scored once."""
    path = "flights/new/delivered-thrice.parquet"
    etag = world.upload(path, world.month(7, rows=500))
    run = world.ended(world.run_of(path, etag))
    event_id = world.recorded(path, etag).event_id

    world.event_grid("POST", "/_redeliver", {"event_id": event_id, "times": 2})

    arrival = wait_for(lambda: delivered(world, path, etag, times=3), "both redeliveries being counted")
    assert arrival.run_id == run.id
    assert len(world.databricks_runs(run)) == 1
    assert [found.id for found in world.ledger.runs(pipeline=SCORING) if found.id == run.id] == [run.id]


def delivered(world: WholeCloud, path: str, etag: str, *, times: int) -> Arrival | None:
    """Return the arrival once it was delivered so often."""
    arrival = world.arrival(path, etag)
    return arrival if arrival is not None and arrival.deliveries >= times else None


BROKEN = ("text in a Parquet name", "missing columns", "no rows", "only empty values")


@pytest.fixture(scope="session")
def broken_arrivals(world: WholeCloud) -> dict[str, tuple[str, str]]:
    """Path and ETag of each broken file, all uploaded at once so that their runs overlap."""
    paths = {case: f"flights/new/broken-{case.replace(' ', '-')}.parquet" for case in BROKEN}
    return {case: (path, world.upload(path, broken(world, case))) for case, path in paths.items()}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_its_reason(
    world: WholeCloud, broken_arrivals: dict[str, tuple[str, str]], case: str
) -> None:
    """What the route does not promise is never published, and the announcement says why."""
    path, etag = broken_arrivals[case]

    run = world.ended(world.run_of(path, etag), within_s=300)

    assert run.outcome is Outcome.FAILED
    assert run.reason
    assert world.blobs(output_prefix(run.output_url)) == {}
    assert world.settled(path, etag).state is ArrivalState.FAILED
    events = wait_for(lambda: world.completion_events(run) or None, "the completion event")
    assert {event["data"]["outcome"] for event in events} == {"failed"}
    assert events[-1]["data"]["reason"]
    jsonschema.validate(events[-1], contract("completion-event"))


def broken(world: WholeCloud, case: str) -> bytes:
    """Return a file that breaks what the scoring route promises."""
    flights = month_of(world.flights, 8, with_outcome=False).slice(0, 50)
    match case:
        case "text in a Parquet name":
            return b"year,month,day\n2013,8,1\n"
        case "missing columns":
            return to_parquet(flights.drop_columns(["carrier", "distance"]))
        case "no rows":
            return to_parquet(flights.slice(0, 0))
        case _:
            return to_parquet(
                pa.table({name: pa.nulls(50, flights.schema.field(name).type) for name in flights.schema.names})
            )


def test_own_scores_never_start_a_run(world: WholeCloud) -> None:
    """What Spark writes raises events too; each is recorded as ignored, with the reason."""
    path = "flights/new/loop-guard.parquet"
    run = world.ended(world.run_of(path, world.upload(path, world.month(6, rows=200))))
    score_file = next(name for name in world.blobs(output_prefix(run.output_url)) if name.endswith(".parquet"))

    recorded = wait_for(
        lambda: next(
            (
                entry.value
                for entry in world.ledger.rows.arrivals_of_path("tidegatelocal", SCORES_CONTAINER, score_file)
            ),
            None,
        ),
        "the score file's own event",
    )

    assert recorded.state is ArrivalState.IGNORED
    assert recorded.run_id is None
    assert recorded.reason


def test_a_file_that_no_route_wants_is_recorded_with_the_reason(world: WholeCloud) -> None:
    """Nothing is dropped in silence."""
    path = "flights/notes/readme.txt"

    etag = world.upload(path, b"just a note\n")

    arrival = world.recorded(path, etag)
    assert arrival.state is ArrivalState.IGNORED
    assert arrival.run_id is None
    assert arrival.reason


def test_a_request_over_http_is_answered_followed_and_repeated(world: WholeCloud) -> None:
    """The same Idempotency-Key gives the same run; its status can be followed to the end."""
    path = "flights/new/asked-for.parquet"
    etag = world.upload(path, world.month(9, rows=300))
    world.ended(world.run_of(path, etag))
    url = f"https://tidegatelocal.blob.core.windows.net/input/{path}"
    body = {"pipeline": str(SCORING), "files": [url]}

    _, first = world.api("POST", "/api/runs", body, **{"Idempotency-Key": "e2e-1"})
    _, again = world.api("POST", "/api/runs", body, **{"Idempotency-Key": "e2e-1"})

    assert first["id"] == again["id"]

    def ended() -> dict[str, Any] | None:
        _, run = world.api("GET", f"/api/runs/{first['id']}")
        return run if run["state"] == "ended" else None

    assert wait_for(ended, "the end of the requested run", within_s=180)["outcome"] == "completed"


def test_a_wrong_request_names_every_bad_field_and_starts_nothing(world: WholeCloud) -> None:
    """A 400 lists all mistakes at once."""
    before = {run.id for run in world.ledger.runs(pipeline=SCORING)}

    status, answer = world.api(
        "POST",
        "/api/runs",
        {"pipeline": str(SCORING), "stages": {"bake": True}, "parameters": {"x": "1"}, "files": ["../secrets"]},
    )

    assert status == 400
    text = json.dumps(answer)
    assert "bake" in text
    assert "files[0]" in text
    assert "parameters.x" in text
    assert {run.id for run in world.ledger.runs(pipeline=SCORING)} == before
