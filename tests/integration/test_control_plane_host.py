"""Drives the control plane on the real Functions host: files in, runs, scores, completion events, HTTP."""

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient

from functions.core.ledger import CauseKind, Run
from functions.core.model import ArrivalState, Outcome, PipelineKey, RunId
from functions.core.signals import signal_to_document
from functions.core.tokens import run_id_of_signal
from tests.support.azurite import ACCOUNT
from tests.support.event_grid import TOPIC_KEY
from tests.support.functions_host import functions_host_running, until
from tests.support.plane_cloud import _APP, TOPIC, PlaneCloud, plane_cloud
from tests.support.records import make_signal

pytestmark = pytest.mark.integration

READING = {
    "health",
    "health_details",
    "list_arrivals",
    "list_backfills",
    "list_dead_letters",
    "list_pipelines",
    "list_runs",
    "list_signals",
    "show_arrival",
    "show_backfill",
    "show_lineage",
    "show_run",
}
ACTING = {
    "allow_runs",
    "cancel_run",
    "dismiss",
    "pause_pipeline",
    "repair_run",
    "replay",
    "request_backfill",
    "request_run",
    "resume_pipeline",
    "retry_run",
}
LISTENING = {
    "arrivals",
    "arrivals_poison",
    "completions",
    "completions_poison",
    "dispatch",
    "dispatch_poison",
    "reconciler",
    "schedule_flight_delay_training_monthly_retraining",
    "sweep",
}
FUNCTIONS = READING | ACTING | LISTENING


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaneCloud]:
    with plane_cloud(tmp_path_factory.mktemp("plane")) as running:
        yield running


def test_the_app_has_exactly_these_functions(cloud: PlaneCloud) -> None:
    """R68: Microsoft's runtime indexes the app; one function lost is a failed test, not a silent deployment."""
    listed = cloud.host.request("GET", "/admin/functions", key=cloud.host.master_key).json()

    assert {function["name"] for function in listed} == FUNCTIONS


def test_a_file_becomes_scores_and_one_announced_end(cloud: PlaneCloud) -> None:
    cloud.upload("complete.parquet")

    run = cloud.ended(cloud.run_of("complete.parquet").id)

    assert (run.outcome, run.attempt, run.model_version) == (Outcome.COMPLETED, 1, "7")
    (arrival,) = cloud.ledger.arrivals_of_path(ACCOUNT, "input", "flights/new/complete.parquet")
    assert arrival.value.state is ArrivalState.SCORED
    status, document = cloud.api("GET", f"/runs/{run.id}")
    assert (status, document["outcome"], document["scores_url"]) == (200, "completed", run.output_url)
    _, read_by = cloud.api("GET", f"/lineage?blob={quote(arrival.value.blob.url, safe='')}")
    _, written_by = cloud.api("GET", f"/lineage?blob={quote(run.output_url, safe='')}")
    assert [shown["id"] for shown in read_by["runs"]] == [shown["id"] for shown in written_by["made_by"]] == [run.id]
    assert [file["arrival_id"] for file in read_by["runs"][0]["inputs"]] == [arrival.value.id]


def test_a_paused_pipeline_holds_a_file_until_it_is_resumed(cloud: PlaneCloud) -> None:
    """R76, over HTTP and on the real runtime; everyone sees who paused it and why."""
    said = {"reason": "the schema changes", "by": "ada"}
    paused_status, paused = cloud.api("POST", "/pipelines/flight_delay_scoring/pause", said)
    cloud.upload("paused.parquet")

    def is_held() -> bool:
        _, listed = cloud.api("GET", "/pipelines")
        return any(item["held_arrivals"] == 1 and item["waits"] == "paused" for item in listed["pipelines"])

    until(is_held, what="the file is held")
    (arrival,) = cloud.ledger.arrivals_of_path(ACCOUNT, "input", "flights/new/paused.parquet")
    resumed_status, resumed = cloud.api("POST", "/pipelines/flight_delay_scoring/resume")
    run = cloud.ended(cloud.run_of("paused.parquet").id)

    assert (paused_status, paused["did"]) == (200, ["paused pipeline flight_delay_scoring"])
    assert arrival.value.state is ArrivalState.HELD
    assert (resumed_status, resumed["did"][1:]) == (200, ["had the dispatcher look"])
    assert run.outcome is Outcome.COMPLETED


def test_a_notebook_that_never_reports_is_announced_by_the_reconciler(cloud: PlaneCloud) -> None:
    """R54: within a minute, whoever failed to say so."""
    began = time.monotonic()
    cloud.upload("silent.parquet")

    run = cloud.ended(cloud.run_of("silent.parquet").id)

    assert run.outcome is Outcome.FAILED
    assert run.completion is not None
    assert run.completion.announced_by == "control_plane"
    assert time.monotonic() - began < 60


def test_a_lost_answer_leaves_one_run(cloud: PlaneCloud) -> None:
    """R22: Databricks started the run, the answer was lost; the persisted token finds that very run."""
    cloud.workspace.fault(method="POST", path=".*/jobs/run-now", times=1, action={"drop_response": True})
    cloud.upload("lost.parquet")

    run = cloud.ended(cloud.run_of("lost.parquet").id)

    assert run.outcome is Outcome.COMPLETED
    assert cloud.databricks_runs(str(run.token)) == 1


def test_a_refused_start_is_repeated_after_the_time_that_was_asked_for(cloud: PlaneCloud) -> None:
    """R23."""
    action = {"status": 429, "retry_after": 3, "body": {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow"}}
    cloud.workspace.fault(method="POST", path=".*/jobs/run-now", times=1, action=action)
    cloud.upload("throttled.parquet")

    run = cloud.ended(cloud.run_of("throttled.parquet").id)

    assert run.outcome is Outcome.COMPLETED
    assert run.submitted_at is not None
    assert (run.submitted_at - run.created_at).total_seconds() >= 3


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (base64.b64encode(b"this is no event").decode(), "this is no event"),
        ("this is no base64!", "this is no base64!"),
    ],
)
def test_what_is_no_event_is_quarantined_with_its_reason(cloud: PlaneCloud, sent: str, kept: str) -> None:
    """However its sender wrapped it: none stays in the poison queue, where it would be gone after seven days."""
    queue = cloud.queues.get_queue_client("arrivals")

    queue.send_message(sent)

    def found() -> list[str]:
        return [
            message.reason
            for message in cloud.ledger.quarantined(limit=10)
            if _message_kept(cloud, message.url) == kept
        ]

    reasons = until(found, what="a quarantined message")
    assert "JSON" in reasons[0]


def _message_kept(cloud: PlaneCloud, url: str) -> str:
    container, path = url.split("/", 4)[3:]
    document = json.loads(cloud.blobs.get_blob_client(container, path).download_blob().readall())
    return str(document["message"])


def test_a_file_that_no_route_wants_is_recorded_with_the_reason(cloud: PlaneCloud) -> None:
    cloud.blobs.get_blob_client("input", "elsewhere/x.parquet").upload_blob(b"x")

    (arrival,) = until(
        lambda: cloud.ledger.arrivals_of_path(ACCOUNT, "input", "elsewhere/x.parquet"), what="the arrival"
    )

    assert arrival.value.state is ArrivalState.IGNORED
    assert "no route matches" in (arrival.value.reason or "")


def test_a_run_is_asked_for_once_per_idempotency_key(cloud: PlaneCloud) -> None:
    """R06: 202 with id and status URL; the same key is the same run; another body under it is refused."""
    url = cloud.upload("asked.parquet")
    cloud.ended(cloud.run_of("asked.parquet").id)
    body = {"pipeline": "flight_delay_scoring", "files": [url]}
    key = {"Idempotency-Key": "ask-1"}

    first = cloud.api("POST", "/runs", body, **key)
    second = cloud.api("POST", "/runs", body, **key)
    other = cloud.api("POST", "/runs", {"pipeline": "flight_delay_scoring"}, **key)

    assert (first[0], second[0], other[0]) == (202, 202, 400)
    assert first[1]["id"] == second[1]["id"]
    assert first[1]["status_url"] == f"{cloud.host.url}/api/runs/{first[1]['id']}"
    assert cloud.ended(first[1]["id"]).outcome is Outcome.COMPLETED


def test_a_dry_run_explains_and_starts_nothing(cloud: PlaneCloud) -> None:
    url = cloud.upload("dry.parquet")
    cloud.ended(cloud.run_of("dry.parquet").id)

    status, document = cloud.api(
        "POST", "/runs?dry_run=1", {"pipeline": "flight_delay_scoring", "files": [url]}, **{"Idempotency-Key": "dry-1"}
    )

    assert (status, document["decision"]["action"]) == (200, "start")
    assert document["run"]["files"] == [url]
    assert cloud.api("GET", f"/runs/{document['run']['id']}")[0] == 404


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"no json", {"body"}),
        (json.dumps({"pipeline": "nobody", "colour": "red"}).encode(), {"pipeline", "colour"}),
        (
            json.dumps({"pipeline": "flight_delay_scoring", "stages": {"cooking": True, "publish": "yes"}}).encode(),
            {"stages.cooking", "stages.publish"},
        ),
    ],
)
def test_a_wrong_request_lists_every_bad_field(cloud: PlaneCloud, body: bytes, fields: set[str]) -> None:
    status, document = cloud.api("POST", "/runs", body)

    assert status == 400
    assert {error["field"] for error in document["errors"]} == fields


@pytest.mark.parametrize("path", ["/runs/nothing", "/runs/flight_delay_scoring-20260101T000000Z-0123456789ab"])
def test_an_unknown_run_is_not_found(cloud: PlaneCloud, path: str) -> None:
    assert cloud.api("GET", path)[0] == 404


def test_a_run_that_completed_is_not_done_again(cloud: PlaneCloud) -> None:
    cloud.upload("done.parquet")
    run = cloud.ended(cloud.run_of("done.parquet").id)

    status, document = cloud.api("POST", f"/runs/{run.id}/retry")

    assert status == 409
    assert "RejectRetryOfSuccess" in document["error"]


def test_runs_are_listed_newest_first_and_wrong_questions_refused(cloud: PlaneCloud) -> None:
    cloud.upload("listed.parquet")
    run = cloud.run_of("listed.parquet")

    status, document = cloud.api("GET", "/runs?pipeline=flight_delay_scoring&limit=1000")

    assert status == 200
    assert run.id in [item["id"] for item in document["runs"]]
    assert cloud.api("GET", "/runs?limit=many")[0] == 400
    assert cloud.api("GET", "/runs?pipeline=nobody")[0] == 404


def test_a_signal_of_a_monitor_retrains_once(cloud: PlaneCloud) -> None:
    """R51: published twice to the topic, through Event Grid, the completions queue and the Functions host."""
    cloud.blobs.get_blob_client("input", "flights/history/2013-01.parquet").upload_blob(b"flights", overwrite=True)
    end = datetime(2026, 3, 1, tzinfo=UTC)
    signal = make_signal(time=end)
    document = signal_to_document(signal)
    event: CloudEvent[object] = CloudEvent(
        id=signal.event_id,
        source=signal.source,
        type=signal.type.value,
        subject=str(document["subject"]),
        time=end,
        datacontenttype="application/json",
        dataschema=str(document["dataschema"]),
        data=document["data"],
    )
    run_id = run_id_of_signal(PipelineKey("flight_delay_training"), "drift", signal)

    with EventGridPublisherClient(cloud.event_grid.topic_endpoint(TOPIC), AzureKeyCredential(TOPIC_KEY)) as client:
        client.send([event, event])

    run = cloud.ended(run_id)
    assert (run.cause.kind, run.cause.name) == (CauseKind.SIGNAL, "drift")
    assert cloud.databricks_runs(str(run.token)) == 1


def test_health_is_green(cloud: PlaneCloud) -> None:
    reply = cloud.host.request("GET", "/api/health")

    assert (reply.status, reply.json()) == (200, {"status": "green", "problems": []})


def test_the_worker_is_killed_and_nothing_is_lost(cloud: PlaneCloud) -> None:
    """A SIGKILL in the middle of a burst: each file is scored by exactly one run."""
    import os
    import signal

    names = [f"burst-{index}.parquet" for index in range(6)]
    for index, name in enumerate(names):
        cloud.upload(name)
        if index == 3:
            os.kill(cloud.host.worker_pid, signal.SIGKILL)

    runs = [cloud.ended(cloud.run_of(name, within_s=90).id, within_s=90) for name in names]

    assert {run.outcome for run in runs} == {Outcome.COMPLETED}
    assert all(cloud.databricks_runs(str(run.token)) == 1 for run in runs)


def test_a_failed_run_is_repaired_on_the_same_databricks_run(cloud: PlaneCloud) -> None:
    """R27: the notebook fails in its first attempt only; the repair is the run's second attempt."""
    cloud.upload("raises_once.parquet")
    failed = cloud.ended(cloud.run_of("raises_once.parquet").id)
    assert (failed.outcome, failed.attempt) == (Outcome.FAILED, 1)

    status, document = cloud.api("POST", f"/runs/{failed.id}/repair")
    repaired = cloud.ended(failed.id, attempt=2)

    assert (status, document["did_not"]) == (202, [])
    assert (repaired.outcome, repaired.attempt) == (Outcome.COMPLETED, 2)
    assert repaired.databricks_run_id == failed.databricks_run_id
    assert repaired.manifest == failed.manifest


def test_a_run_is_cancelled_and_its_file_replayed(cloud: PlaneCloud) -> None:
    """R08, R74."""
    cloud.upload("sleeps.parquet")
    run = cloud.run_of("sleeps.parquet")
    until(lambda: cloud.ledger.get_run(run.id).value.databricks_run_id, what="the Databricks run")  # type: ignore[union-attr] # it was there

    status, said = cloud.api("POST", f"/runs/{run.id}/cancel")
    cancelled = cloud.ended(run.id)
    again, _ = cloud.api("POST", f"/runs/{run.id}/cancel")
    (arrival,) = cloud.ledger.arrivals_of_path(ACCOUNT, "input", "flights/new/sleeps.parquet")
    replayed, what = cloud.api("POST", "/replays", {"arrival": arrival.value.id})
    retried = until(lambda: _of_attempt(cloud, run.id, 2), what="the second attempt")

    assert (status, again, cancelled.outcome) == (202, 202, Outcome.CANCELLED)
    assert said["did"][0] == "noted that it is to be cancelled"
    assert (replayed, what["did_not"]) == (200, [])
    assert retried is not None
    cloud.api("POST", f"/runs/{retried.id}/cancel")
    assert cloud.ended(run.id, attempt=2).outcome is Outcome.CANCELLED


def _of_attempt(cloud: PlaneCloud, run_id: RunId, attempt: int) -> Run | None:
    entry = cloud.ledger.get_run(run_id)
    return None if entry is None or entry.value.attempt < attempt else entry.value


def test_files_that_were_there_before_are_backfilled_after_a_dry_run(cloud: PlaneCloud) -> None:
    """R75: nothing announces them; the app lists them, step by step, with nobody waiting."""
    for number in range(3):
        cloud.upload_silently(f"backfilled-{number}.parquet")
    body = {"pipeline": "flight_delay_scoring", "prefix": "flights/new/backfilled-"}

    status, begun = cloud.api("POST", "/backfills", body)
    counted = until(lambda: _backfill_in(cloud, begun["id"], "counted"), what="the dry run")
    assert counted is not None
    cloud.api("POST", "/backfills", {**body, "confirm": counted["confirm"]})
    done = until(lambda: _backfill_in(cloud, begun["id"], "done"), what="the backfill")

    assert done is not None
    assert (status, counted["plan"]["new"], done["counts"]["new"]) == (202, 3, 3)
    run = cloud.ended(cloud.run_of("backfilled-0.parquet").id, within_s=90)
    assert run.outcome is Outcome.COMPLETED


def _backfill_in(cloud: PlaneCloud, backfill_id: str, state: str) -> dict[str, Any] | None:
    _, document = cloud.api("GET", f"/backfills/{backfill_id}")
    found: dict[str, Any] = document
    return found if found["state"] == state else None


def test_a_message_that_nobody_understood_is_listed_and_replayed(cloud: PlaneCloud) -> None:
    queue = cloud.queues.get_queue_client("arrivals")
    queue.send_message(base64.b64encode(b"neither is this an event").decode())
    until(
        lambda: [message for message in cloud.ledger.quarantined(limit=10) if "24 characters" in message.reason],
        what="the quarantined message",
    )

    status, document = cloud.api("GET", "/dead-letters?prefix=poison/")
    letter = next(item for item in document["dead_letters"] if "24 characters" in (item["reason"] or ""))
    replayed, what = cloud.api("POST", "/replays", {"dead_letter": letter["name"]})

    assert (status, replayed) == (200, 409)
    assert "JSON" in what["did_not"][0]


def test_with_a_setting_missing_health_is_red_and_nothing_listens(cloud: PlaneCloud) -> None:
    """Messages stay where they are until the setting is there; every missing one is named."""
    settings = {
        name: value for name, value in cloud.settings.items() if not name.startswith(("DATABRICKS", "EVENTGRID"))
    }

    with functions_host_running(_APP, settings) as host:
        reply = host.request("GET", "/api/health")
        listed = host.request("GET", "/admin/functions", key=host.master_key).json()

    assert reply.status == 503
    assert set(reply.json()["problems"]) == {"DATABRICKS_HOST", "EVENTGRID_TOPIC_ENDPOINT"}
    assert {function["name"] for function in listed} == READING | ACTING
