"""Scores: uploads a month of flights, follows its run, and delivers the same event again."""

import base64
import json
import time

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient
from azure.storage.queue import QueueClient

from cli.blob_urls import parse_blob_url
from cli.demo.context import Demo, DemoFailedError, until
from cli.demo.following import find_run_of_arrival, follow, require_outcome, runs_of
from cli.wording import counted
from functions.core.ledger import Arrival, Run
from functions.core.model import ArrivalState, Outcome
from functions.core.reading import to_iso
from local.demo_data.files import DemoFile

__all__ = ["arrival_of", "deliver_again", "require_scores", "score", "upload"]

_RUN_S = 180.0
_DELIVERED_S = 30.0
_QUIET_S = 3.0
_MANIFEST = "_manifest.json"


def upload(demo: Demo, container: ContainerClient, file: DemoFile) -> str:
    """Upload a file as any sender would; return its ETag."""
    answer = container.upload_blob(file.path, file.content, overwrite=True).get_blob_properties()
    etag = str(answer.etag).strip('"')
    demo.say(f"uploaded {container.container_name}/{file.path} ({len(file.content):,} bytes, {file.rows:,} flights)")
    return etag


def score(demo: Demo, container: ContainerClient, file: DemoFile) -> str:
    """Upload a month and follow it to its scores; return its ETag."""
    began = time.time()
    etag = upload(demo, container, file)
    run_id = find_run_of_arrival(demo, container.container_name, file.path, etag)
    run = follow(demo, run_id, timeout_s=_RUN_S)
    require_outcome(demo, run, Outcome.COMPLETED)
    demo.scoring = run
    if run.submitted_at is not None:
        demo.timings["upload to submission"] = run.submitted_at.timestamp() - began
        demo.good(f"from upload to submission: {demo.timings['upload to submission']:.2f} s")
    require_scores(demo, run, file.rows)
    return etag


def require_scores(demo: Demo, run: Run, rows: int) -> None:
    """Look into storage: the manifest was written last, and accounts for every row and file.

    Raises:
        DemoFailedError: It does not.
    """
    output = parse_blob_url(run.output_url)
    container = demo.blobs.get_container_client(output.container)
    try:
        manifest = json.loads(container.download_blob(f"{output.path}/{_MANIFEST}").readall())
    except ResourceNotFoundError as error:
        raise DemoFailedError(f"no {_MANIFEST} below {run.output_url}", logs=("workspace",)) from error
    if manifest["rows_in"] != rows or manifest["rows_scored"] + manifest["rows_quarantined"] != rows:
        raise DemoFailedError(
            f"{rows} rows were uploaded, the manifest says {manifest['rows_in']} in, {manifest['rows_scored']} scored, "
            f"{manifest['rows_quarantined']} quarantined",
            logs=("workspace",),
        )
    written = {blob.name: blob.last_modified for blob in container.list_blobs(f"{output.path}/") if blob.size}
    manifest_time = written.pop(f"{output.path}/{_MANIFEST}")
    listed = {parse_blob_url(file["url"]).path for file in manifest["files"]}
    if not listed or not listed <= written.keys() or any(written[path] > manifest_time for path in listed):
        raise DemoFailedError(f"the files below {run.output_url} are not those of its manifest", logs=("workspace",))
    demo.good(
        f"{manifest['rows_scored']:,} scores in {counted(len(listed), 'file')}, {_MANIFEST} last: {run.output_url}"
    )


def arrival_of(demo: Demo, container: str, path: str, etag: str) -> Arrival | None:
    """Return what the ledger says of one version of one blob."""
    for entry in demo.ledger.rows.arrivals_of_path(demo.blobs.account_name or "", container, path):
        if entry.value.blob.etag == etag:
            return entry.value
    return None


def deliver_again(demo: Demo, container: str, file: DemoFile, etag: str, times: int) -> None:
    """Put the very event that started the run into the arrivals queue again; show that nothing further starts.

    Raises:
        DemoFailedError: Something did, or a delivery was not recorded.
    """
    run = demo.scoring
    arrival = arrival_of(demo, container, file.path, etag)
    if run is None or arrival is None:
        raise DemoFailedError(f"the ledger has no arrival of {file.path}")
    event = until(
        lambda: demo.subscriber.arrival(file.path, etag),
        what=f"the event of {file.path} at the demo's own subscription",
        timeout_s=_DELIVERED_S,
        logs=("event_grid",),
    )
    runs, databricks_runs = runs_of(demo, run.pipeline), _databricks_runs(demo)
    message = base64.b64encode(json.dumps(event).encode()).decode()  # as Event Grid puts it there
    with QueueClient.from_connection_string(demo.settings.storage_connection_string, "arrivals") as queue:
        for _ in range(times):
            queue.send_message(message)
    wanted = arrival.deliveries + times

    def recorded() -> Arrival | None:
        now = arrival_of(demo, container, file.path, etag)
        return now if now is not None and now.deliveries >= wanted else None

    seen = until(
        recorded, what=f"{times} further deliveries in the ledger", timeout_s=_DELIVERED_S, logs=("functions_host",)
    )
    time.sleep(_QUIET_S)  # what a second run would need to appear
    if runs_of(demo, run.pipeline) != runs or _databricks_runs(demo) != databricks_runs:
        raise DemoFailedError(f"delivering {arrival.event_id} again started a further run")
    if seen.state is not ArrivalState.SCORED or seen.run_id != run.id:
        raise DemoFailedError(f"the arrival of {file.path} is {seen.state.value}, expected scored by {run.id}")
    demo.good(
        f"event {arrival.event_id} was delivered {seen.deliveries} times since {to_iso(arrival.recorded_at)}: "
        f"one arrival, one run, {len(databricks_runs)} Databricks runs as before"
    )


def _databricks_runs(demo: Demo) -> set[int]:
    return {run.run_id for run in demo.workspace.jobs.list_runs(limit=25) if run.run_id is not None}
