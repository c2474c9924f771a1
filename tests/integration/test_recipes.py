"""Carries out the recipes of docs/operations.md with the `tidegate` command, on the real Functions host.

Each test is marked with the heading that it carries out; a heading without a test fails in tests/unit.
Notebooks are stand-ins without Spark; which of them fails, sleeps or never reports is in the name of its file.
"""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AzureKeyCredential
from azure.core.messaging import CloudEvent
from azure.eventgrid import EventGridPublisherClient
from typer.testing import CliRunner

from cli.main import app
from functions.core.ledger import Run
from functions.core.model import Outcome, RunId
from functions.core.signals import signal_to_document
from tests.support.azurite import ACCOUNT
from tests.support.event_grid import TOPIC_KEY
from tests.support.functions_host import FunctionsHost, functions_host_running, until
from tests.support.plane_cloud import TOPIC, PlaneCloud, plane_cloud
from tests.support.records import make_signal

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SCORING = "flight_delay_scoring"
TRAINING = "flight_delay_training"
SCORING_JOB = "tidegate-local-scoring"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaneCloud]:
    with plane_cloud(tmp_path_factory.mktemp("plane")) as running:
        yield running


def tidegate(cloud: PlaneCloud, *arguments: str, exit_code: int = 0, host: FunctionsHost | None = None) -> str:
    """Run the command on the app and return what it printed; its errors too."""
    url = (host or cloud.host).url
    environ = {"TIDEGATE_API_URL": url, "TIDEGATE_API_KEY": cloud.host.default_key, "NO_COLOR": "1"}
    done = CliRunner().invoke(app, list(arguments), env=environ)
    assert done.exit_code == exit_code, f"tidegate {' '.join(arguments)}: {done.exit_code}\n{done.output}"
    return done.output


def lines(cloud: PlaneCloud, *arguments: str) -> list[dict[str, Any]]:
    """Return what a listing command prints as JSON."""
    return [json.loads(line) for line in tidegate(cloud, *arguments, "--json").splitlines()]


def arrival_of(cloud: PlaneCloud, name: str, *, state: str) -> str:
    """Return the id of a file's arrival as `tidegate arrivals` shows it, once it is in a state."""
    url = f"https://{ACCOUNT}.blob.core.windows.net/input/flights/new/{name}"
    found = until(lambda: lines(cloud, "arrivals", "--blob", url, "--state", state), what=f"{name} is {state}")
    return str(found[0]["id"])


def sent(cloud: PlaneCloud, run: Run) -> Run:
    """Return the run once Databricks has its current attempt."""

    def look() -> Run | None:
        entry = cloud.ledger.get_run(run.id)
        return entry.value if entry is not None and entry.value.databricks_run_id is not None else None

    found = until(look, what=f"{run.id} is at Databricks")
    assert found is not None
    return found


def details(cloud: PlaneCloud, host: FunctionsHost | None = None) -> dict[str, Any]:
    reply = (host or cloud.host).request("GET", "/api/health/details", key=cloud.host.default_key)
    document: dict[str, Any] = reply.json()
    return document


def completions(cloud: PlaneCloud, run_id: RunId) -> set[str]:
    """Return the ids under which the ends of a run's attempts were announced."""
    entry = cloud.ledger.get_run(run_id)
    assert entry is not None
    assert entry.value.completion is not None
    return {entry.value.completion.id}


@pytest.mark.recipe("A run failed")
def test_a_failed_run_is_retried(cloud: PlaneCloud) -> None:
    cloud.upload("raises_once-retried.parquet")
    failed = cloud.ended(cloud.run_of("raises_once-retried.parquet").id)

    story = tidegate(cloud, "explain", failed.id)
    said = tidegate(cloud, "retry", failed.id)
    retried = cloud.ended(failed.id, attempt=2)

    assert "  reason: Databricks says TERMINATED/FAILED/RUN_EXECUTION_ERROR" in story
    assert f"  run_page_url: {cloud.workspace.url}/jobs/" in story
    assert "did: began attempt 2" in said
    assert (retried.outcome, retried.manifest) == (Outcome.COMPLETED, failed.manifest)
    assert retried.databricks_run_id != failed.databricks_run_id
    assert completions(cloud, failed.id) == {f"{failed.id}.2.completed"}
    refused = tidegate(cloud, "retry", failed.id, exit_code=4)
    assert "POST /api/runs" in refused


@pytest.mark.recipe("A run failed")
def test_the_failed_tasks_of_a_run_are_repaired(cloud: PlaneCloud) -> None:
    cloud.upload("raises_once-repaired.parquet")
    failed = cloud.ended(cloud.run_of("raises_once-repaired.parquet").id)

    said = tidegate(cloud, "repair", failed.id)
    repaired = cloud.ended(failed.id, attempt=2)

    assert f"did: began attempt 2, a repair of Databricks run {failed.databricks_run_id}" in said
    assert (repaired.outcome, repaired.databricks_run_id) == (Outcome.COMPLETED, failed.databricks_run_id)
    assert "POST /api/runs" in tidegate(cloud, "repair", failed.id, exit_code=4)


@pytest.mark.recipe("A run is stuck", "A run shall not go on", "A file was ignored, or failed, or came late")
def test_a_stuck_run_is_cancelled_and_its_file_replayed(cloud: PlaneCloud) -> None:
    cloud.upload("sleeps-stuck.parquet")
    run = sent(cloud, cloud.run_of("sleeps-stuck.parquet"))

    stuck = lines(cloud, "runs", "--state", "submitted")
    told = tidegate(cloud, "retry", run.id)
    cancelled = tidegate(cloud, "cancel", run.id)
    ended = cloud.ended(run.id)
    again = tidegate(cloud, "cancel", run.id)
    arrival = arrival_of(cloud, "sleeps-stuck.parquet", state="failed")
    replayed = tidegate(cloud, "replay", arrival)

    assert run.id in [item["id"] for item in stuck]
    assert "began no attempt: attempt 1 has not ended, it is submitted" in told
    assert f"did: asked Databricks to cancel run {run.databricks_run_id}" in cancelled
    assert ended.outcome is Outcome.CANCELLED
    assert "cancelled nothing: it has ended already as cancelled" in again
    assert "did: held it for flight_delay_scoring, whose next batch takes it" in replayed
    second = until(lambda: _attempt(cloud, run.id, 2), what="the next attempt")
    assert second is not None
    tidegate(cloud, "cancel", run.id)
    assert cloud.ended(run.id, attempt=2).outcome is Outcome.CANCELLED


def _attempt(cloud: PlaneCloud, run_id: RunId, number: int) -> Run | None:
    entry = cloud.ledger.get_run(run_id)
    return entry.value if entry is not None and entry.value.attempt >= number else None


@pytest.mark.recipe("A file was ignored, or failed, or came late")
def test_an_ignored_file_says_why_and_what_would_become_of_it_now(cloud: PlaneCloud) -> None:
    cloud.upload("notes.csv")
    arrival = arrival_of(cloud, "notes.csv", state="ignored")

    listed = tidegate(cloud, "arrivals", "--state", "ignored")
    story = json.loads(tidegate(cloud, "explain", arrival, "--json"))
    replayed = tidegate(cloud, "replay", arrival)
    again = tidegate(cloud, "replay", arrival)

    assert arrival in listed
    assert "no route matches the blob" in story["arrival"]["reason"]
    assert (story["decision_now"]["action"], story["decision_now"]["reason"]) == ("skip", "no_route")
    assert "did not: held it not: no route matches the blob" in replayed
    assert "did it not again" in again
    unknown = tidegate(cloud, "replay", "0" * 64, exit_code=4)
    assert "say with `at` when it was recorded" in unknown


@pytest.mark.recipe("Dead letters and poison")
def test_what_was_given_up_is_listed_and_replayed(cloud: PlaneCloud) -> None:
    cloud.queues.get_queue_client("arrivals").send_message(base64.b64encode(b"this is no event at all").decode())
    event = _event_of_a_file_that_nobody_announced(cloud, "given-up.parquet")
    letter = "ARRIVALS/2026/3/1/12/one.json"
    cloud.blobs.get_blob_client("deadletter", letter).upload_blob(json.dumps([event]).encode())

    poison = until(lambda: _letter(cloud, "got 23 characters"), what="the message in quarantine")
    refused = tidegate(cloud, "replay", str(poison), exit_code=4)
    by_another_name = tidegate(cloud, "replay", str(poison), "--key", "recipes-1", exit_code=4)
    assert letter in tidegate(cloud, "dead-letters", "--prefix", "ARRIVALS/")
    delivered = tidegate(cloud, "replay", letter)
    missing = tidegate(cloud, "replay", "poison/2026-03-01/nothing.json", exit_code=4)

    assert letter not in tidegate(cloud, "dead-letters", "--prefix", "ARRIVALS/")
    assert letter in tidegate(cloud, "dead-letters", "--prefix", "ARRIVALS/", "--all")
    assert str(poison) in tidegate(cloud, "dead-letters", "--prefix", "poison/")
    assert "expected an event as JSON" in refused
    assert "expected an event as JSON" in by_another_name
    assert "did: 0e9c27c4-0000-0000-0000-000000000001: arrival " in delivered
    assert cloud.ended(cloud.run_of("given-up.parquet").id).outcome is Outcome.COMPLETED
    assert "`tidegate dead-letters`" in missing

    dismissed = tidegate(cloud, "dismiss", str(poison), "--reason", "a probe of the recipes")
    assert "did: dismissed it" in dismissed
    assert str(poison) not in tidegate(cloud, "dead-letters", "--prefix", "poison/")
    (left,) = (item for item in lines(cloud, "dead-letters", "--all") if item["name"] == poison)
    assert left["dismissed"]["reason"] == "a probe of the recipes"
    assert "a probe of the recipes" in tidegate(cloud, "dismiss", str(poison), "--reason", "again")


def _letter(cloud: PlaneCloud, reason: str) -> str | None:
    found = lines(cloud, "dead-letters", "--prefix", "poison/")
    return next((str(item["name"]) for item in found if reason in (item["reason"] or "")), None)


def _event_of_a_file_that_nobody_announced(cloud: PlaneCloud, name: str) -> dict[str, object]:
    cloud.upload_silently(name)
    client = cloud.blobs.get_blob_client("input", f"flights/new/{name}")
    properties = client.get_blob_properties()
    return {
        "topic": f"/subscriptions/0/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
        "subject": f"/blobServices/default/containers/input/blobs/flights/new/{name}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": datetime.now(UTC).isoformat(),
        "id": "0e9c27c4-0000-0000-0000-000000000001",
        "data": {
            "api": "PutBlob",
            "eTag": properties.etag.strip('"'),
            "contentType": "application/octet-stream",
            "contentLength": properties.size,
            "blobType": "BlockBlob",
            "url": f"https://{ACCOUNT}.blob.core.windows.net/input/flights/new/{name}",
            "sequencer": "00000000000000000000000000000001",
        },
        "dataVersion": "",
        "metadataVersion": "1",
        "deadLetterReason": "MaxDeliveryAttemptsExceeded",
        "deliveryAttempts": 30,
        "lastDeliveryOutcome": "NotFound",
        "publishTime": datetime.now(UTC).isoformat(),
        "lastDeliveryAttemptTime": datetime.now(UTC).isoformat(),
    }


@pytest.mark.recipe("Files that were there before")
def test_files_that_were_there_before_are_backfilled(cloud: PlaneCloud) -> None:
    """Dry run, confirm, once more, anew, stopped and gone on with: each says what it did and what it did not."""
    for number in range(3):
        cloud.upload_silently(f"before-{number}.parquet")
    command = ("backfill", SCORING, "--prefix", "flights/new/before-")

    counted = tidegate(cloud, *command)
    confirm = counted.partition("--confirm ")[2].split()[0]
    done = tidegate(cloud, *command, "--confirm", confirm)
    once_more = tidegate(cloud, *command)
    runs = {cloud.ended(cloud.run_of(f"before-{number}.parquet").id).outcome for number in range(3)}
    anew = tidegate(cloud, *command, "--fresh")
    stopped = tidegate(cloud, *command, "--stop")
    gone_on = tidegate(cloud, *command)

    assert "3 new: would be recorded" in counted
    assert "nothing was changed" in counted
    assert "3 new: were recorded" in done
    assert "is done" in once_more
    assert runs == {Outcome.COMPLETED}
    assert "0 new: would be recorded" in anew
    assert "3 known already: left alone" in anew
    assert "stopped" in stopped
    assert "went on with it" in gone_on
    assert "nothing was changed" in gone_on
    assert "is done" in tidegate(cloud, *command, "--yes")
    assert SCORING in tidegate(cloud, "backfills")


@pytest.mark.recipe("Nothing of a pipeline shall start")
def test_a_pipeline_is_paused_and_resumed_also_while_all_are(cloud: PlaneCloud) -> None:
    paused = tidegate(cloud, "pause", SCORING, "--reason", "the schema changes")
    cloud.upload("while-paused.parquet")
    arrival = arrival_of(cloud, "while-paused.parquet", state="held")
    listed, shown = tidegate(cloud, "arrivals", "--state", "held"), tidegate(cloud, "explain", arrival)
    all_paused = tidegate(cloud, "pause", "all", "--reason", "a release")
    kept = tidegate(cloud, "resume", SCORING)
    (status,) = [item for item in lines(cloud, "pipelines") if item["pipeline"] == SCORING]
    resumed = tidegate(cloud, "resume", "all")
    run = cloud.ended(cloud.run_of("while-paused.parquet").id)

    assert "did: paused pipeline flight_delay_scoring" in paused
    assert "held (paused)" in listed
    assert "  waits: paused\n" in shown
    assert "did: paused all pipelines" in all_paused
    assert "did not: started nothing of pipeline flight_delay_scoring: all pipelines are paused" in kept
    assert (status["waits"], status["held_arrivals"], status["pause_reason"]) == ("paused", 1, "a release")
    assert "did: resumed all pipelines" in resumed
    assert run.outcome is Outcome.COMPLETED


@pytest.mark.recipe("A budget is spent", "An alert was raised")
def test_a_spent_budget_is_an_alert_until_a_person_allows_more(cloud: PlaneCloud) -> None:
    tidegate(cloud, "allow", SCORING, "0")
    cloud.upload("beyond-the-budget.parquet")
    arrival = arrival_of(cloud, "beyond-the-budget.parquet", state="held")

    def alerted() -> list[dict[str, Any]]:
        return [alert for alert in details(cloud)["alerts"] if alert["kind"] == "budget_spent"]

    (alert,) = until(alerted, what="the alert in health's details")
    shown = tidegate(cloud, "explain", arrival)
    allowed = tidegate(cloud, "allow", SCORING, "1000")
    repeated = tidegate(cloud, "allow", SCORING, "1000")
    run = cloud.ended(cloud.run_of("beyond-the-budget.parquet").id)

    assert (alert["pipeline"], alert["run_id"]) == (SCORING, None)
    assert "of 0;" in alert["detail"]
    assert "  waits: budget_spent\n" in shown
    assert "did: allowed pipeline flight_delay_scoring 1000 run(s) on " in allowed
    assert "did not: changed nothing: 1000 run(s) were allowed on " in repeated
    assert run.outcome is Outcome.COMPLETED


@pytest.mark.recipe("Runs wait although few are active", "Health is red")
def test_a_job_that_is_missing_is_named_and_what_waits_for_it_goes_on(cloud: PlaneCloud) -> None:
    client = cloud.workspace.client()
    (job,) = [found for found in client.jobs.list() if found.settings and found.settings.name == SCORING_JOB]
    assert job.job_id is not None
    settings = client.jobs.get(job.job_id).settings
    assert settings is not None
    client.jobs.delete(job.job_id)
    cloud.upload("without-a-job.parquet")
    run = cloud.run_of("without-a-job.parquet")

    red = until(lambda: _problem(cloud, "job:scoring"), what="health names the job")
    waiting = lines(cloud, "runs", "--state", "submitting")
    (status,) = [item for item in lines(cloud, "pipelines") if item["pipeline"] == SCORING]
    cloud.workspace.api("POST", "/api/2.2/jobs/create", settings.as_dict()).raise_for_status()
    told = tidegate(cloud, "retry", run.id)
    ended = cloud.ended(run.id)

    assert "no job for 'scoring'" in str(red)
    assert [item["id"] for item in waiting] == [run.id]
    assert status["in_flight"] == 1
    assert "did: had the dispatcher look at it" in told
    assert (ended.outcome, ended.attempt) == (Outcome.COMPLETED, 1)
    assert cloud.databricks_runs(str(ended.token)) == 1


def _problem(cloud: PlaneCloud, name: str) -> str | None:
    return next((str(item["problem"]) for item in details(cloud)["details"] if item["name"] == name), None)


@pytest.mark.recipe("Databricks or storage does not answer")
def test_a_storm_of_databricks_holds_runs_and_loses_none(cloud: PlaneCloud) -> None:
    """Outages of storage, and answers that get lost, are what tests/kills is about."""
    cloud.workspace.fault(method="POST", path=".*/jobs/run-now", times=3, action={"status": 429, "retry_after": 1})
    cloud.upload("in-a-storm.parquet")
    run = cloud.run_of("in-a-storm.parquet")

    ended = cloud.ended(run.id)

    assert (ended.outcome, ended.attempt) == (Outcome.COMPLETED, 1)
    assert [change.state for change in ended.history].count("submitting") == 1
    assert cloud.databricks_runs(str(ended.token)) == 1
    assert lines(cloud, "runs", "--state", "submitting") == []


@pytest.mark.recipe("Health is red", "A wrong pipelines.toml was deployed")
def test_a_wrong_configuration_is_named_and_listens_to_nothing(cloud: PlaneCloud, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text((ROOT / "pipelines.toml").read_text().replace('kind = "scoring"', 'kind = "guessing"'))

    with functions_host_running(ROOT, {**cloud.settings, "TIDEGATE_PIPELINES_FILE": str(wrong)}) as host:
        shown = details(cloud, host)
        runs = tidegate(cloud, "runs", exit_code=5, host=host)

    assert shown["status"] == "red"
    assert any("guessing" in item["problem"] for item in shown["details"])
    assert "guessing" in runs
    checked = tidegate(cloud, "check", str(wrong), exit_code=1)
    assert "guessing" in checked


@pytest.mark.recipe("A pipeline was removed or renamed, and files wait for it")
def test_files_of_a_renamed_pipeline_are_named_and_replayed_for_the_new_one(cloud: PlaneCloud, tmp_path: Path) -> None:
    tidegate(cloud, "pause", SCORING)
    cloud.upload("left-behind.parquet")
    arrival = arrival_of(cloud, "left-behind.parquet", state="held")
    renamed = tmp_path / "renamed.toml"
    configured = (ROOT / "pipelines.toml").read_text()
    renamed.write_text(configured.replace(f"pipelines.{SCORING}", "pipelines.renamed_scoring"))
    settings = {**cloud.settings, "TIDEGATE_PIPELINES_FILE": str(renamed), "TIDEGATE_DISPATCH_QUEUE": "dispatch2"}
    cloud.queues.create_queue("dispatch2")

    with functions_host_running(ROOT, settings) as host:
        left = until(lambda: details(cloud, host)["left_behind"], what="what is left behind")
        listed = tidegate(cloud, "arrivals", "--state", "held", host=host)
        replayed = tidegate(cloud, "replay", arrival, host=host)
        tidegate(cloud, "resume", SCORING)
        run = cloud.ended(cloud.run_of("left-behind.parquet").id)

    assert [item["pipeline"] for item in left] == [SCORING]
    assert "is not configured" in left[0]["what"]
    assert arrival in listed
    assert "did: held it for renamed_scoring, whose next batch takes it" in replayed
    assert (run.pipeline, run.outcome) == ("renamed_scoring", Outcome.COMPLETED)


@pytest.mark.recipe("Two events contradict each other")
def test_events_that_contradict_each_other_are_on_the_arrival(cloud: PlaneCloud) -> None:
    event = _event_of_a_file_that_nobody_announced(cloud, "contradicted.parquet")
    other = {**event, "id": "0e9c27c4-0000-0000-0000-000000000002", "data": {**event["data"], "contentLength": 1}}  # type: ignore[dict-item] # a mapping, above
    queue = cloud.queues.get_queue_client("arrivals")
    queue.send_message(json.dumps(event))
    cloud.ended(cloud.run_of("contradicted.parquet").id)
    queue.send_message(json.dumps(other))

    def contradictions() -> list[str]:
        url = f"https://{ACCOUNT}.blob.core.windows.net/input/flights/new/contradicted.parquet"
        (arrival,) = lines(cloud, "arrivals", "--blob", url)
        found: list[str] = arrival["contradictions"]
        return found

    (said,) = until(contradictions, what="the contradiction")

    assert "size_bytes 1" in said


@pytest.mark.recipe("A subscriber missed events")
def test_a_subscriber_that_was_down_catches_up_from_the_list_of_runs(cloud: PlaneCloud) -> None:
    began = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    cloud.upload("nobody-listened.parquet")
    run = cloud.ended(cloud.run_of("nobody-listened.parquet").id)

    missed = {item["id"]: item for item in lines(cloud, "runs", "--since", began, "--state", "ended")}

    assert missed[run.id]["completion_event_id"] == f"{run.id}.1.completed"
    assert missed[run.id]["scores_url"] == run.output_url
    assert missed[run.id]["published_at"] is not None


@pytest.mark.recipe("A monitor's signal started nothing")
def test_a_signal_that_started_nothing_says_why(cloud: PlaneCloud, tmp_path: Path) -> None:
    document = signal_to_document(make_signal(event_id="recipes-W09", metrics={"psi": 0.1}))
    file = tmp_path / "signal.json"
    file.write_text(json.dumps(document))

    explained = tidegate(cloud, "explain", str(file))
    with EventGridPublisherClient(cloud.event_grid.topic_endpoint(TOPIC), AzureKeyCredential(TOPIC_KEY)) as client:
        client.send(CloudEvent.from_dict(dict(document)))
    (listed,) = until(
        lambda: [item for item in lines(cloud, "signals") if item["id"] == "recipes-W09"], what="the record"
    )

    assert "reason: below_threshold" in explained
    assert "psi is 0.1, below 0.2" in explained
    assert (listed["run_id"], listed["reason"]) == (None, "below_threshold")
    assert "psi is 0.1, below 0.2" in listed["what"]
    assert "drift_detected.v1" in tidegate(cloud, "signals")


@pytest.mark.recipe("A schedule did not run")
def test_a_slot_has_its_run_or_none(cloud: PlaneCloud) -> None:
    cloud.blobs.get_blob_client("input", "flights/history/2013-02.parquet").upload_blob(b"flights", overwrite=True)
    fire = f"/admin/functions/schedule_{TRAINING}_monthly_retraining"
    before = [item for item in lines(cloud, "runs", "--pipeline", TRAINING) if item["cause"]["kind"] == "schedule"]

    json_type = {"Content-Type": "application/json"}
    for _ in range(2):
        cloud.host.request("POST", fire, key=cloud.host.master_key, body=b'{"input": ""}', headers=json_type)
    until(lambda: _of_schedule(cloud), what="the slot's run")

    assert before == []
    (run,) = _of_schedule(cloud)
    slot = datetime.fromisoformat(run["cause"]["at"])
    assert run["id"].startswith(f"{TRAINING}-{slot:%Y%m%dT%H%M%SZ}-")


def _of_schedule(cloud: PlaneCloud) -> list[dict[str, Any]]:
    return [item for item in lines(cloud, "runs", "--pipeline", TRAINING) if item["cause"]["kind"] == "schedule"]
