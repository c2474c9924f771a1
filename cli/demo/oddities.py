"""Does what real senders do: asks over HTTP, sends a broken file, leaves a file that nobody wants."""

from azure.storage.blob import ContainerClient

from cli.demo.context import Demo, DemoFailedError, until
from cli.demo.following import find_run_of_arrival, follow, require_outcome
from cli.demo.scoring import arrival_of, require_scores, upload
from cli.demo.training import ask_for_run
from functions.core.ledger import Arrival
from functions.core.model import ArrivalState, BlobVersion, Outcome
from local.demo_data.files import DemoFile

__all__ = ["ask_over_http", "send_broken_file", "send_unwanted_file"]

_RUN_S = 180.0
_RECORDED_S = 20.0


def ask_over_http(demo: Demo, container: ContainerClient, file: DemoFile) -> None:
    """Ask for the scores of one named file, which no route picks up by itself.

    Raises:
        DemoFailedError: There are none.
    """
    etag = upload(demo, container, file)
    _await_ignored(demo, container, file.path, etag)
    url = _blob_url(demo, container, file.path, etag)
    run_id = ask_for_run(demo, {"pipeline": _scoring_pipeline(demo), "files": [url]})
    run = follow(demo, run_id, timeout_s=_RUN_S)
    require_outcome(demo, run, Outcome.COMPLETED)
    require_scores(demo, run, file.rows)


def send_broken_file(demo: Demo, container: ContainerClient, file: DemoFile) -> None:
    """Send a file whose columns are missing: its run is refused with the reasons, and nothing is published.

    Raises:
        DemoFailedError: Something was published, or nobody was told why not.
    """
    etag = upload(demo, container, file)
    run_id = find_run_of_arrival(demo, container.container_name, file.path, etag)
    run = follow(demo, run_id, timeout_s=_RUN_S)
    require_outcome(demo, run, Outcome.FAILED)
    if demo.ledger.manifests.read_scores(run.output_url) is not None:
        raise DemoFailedError(f"the broken file {file.path} was scored: {run.output_url}", logs=("workspace",))
    if not run.reason or "carrier" not in run.reason:
        raise DemoFailedError(f"the refusal of {file.path} does not name the missing column: {run.reason!r}")
    demo.good(f"refused, nothing published, and the completion event says why: {run.reason}")
    arrival = arrival_of(demo, container.container_name, file.path, etag)
    if arrival is None or arrival.state is not ArrivalState.FAILED:
        raise DemoFailedError(f"the arrival of {file.path} is not recorded as failed")
    demo.arrivals.append(arrival)
    demo.good("its arrival is kept as failed: mend the file and upload it again, or ask for another attempt")


def send_unwanted_file(demo: Demo, container: ContainerClient, file: DemoFile) -> None:
    """Leave a file that no route wants: it is recorded, with the reason.

    Raises:
        DemoFailedError: It is not.
    """
    etag = upload(demo, container, file)
    arrival = _await_ignored(demo, container, file.path, etag)
    demo.good(f"recorded as ignored: {arrival.reason}")


def _await_ignored(demo: Demo, container: ContainerClient, path: str, etag: str) -> Arrival:
    def ignored() -> Arrival | None:
        arrival = arrival_of(demo, container.container_name, path, etag)
        return arrival if arrival is not None and arrival.state is ArrivalState.IGNORED else None

    logs = ("functions_host", "event_grid")
    arrival = until(ignored, what=f"{path} recorded as ignored", timeout_s=_RECORDED_S, logs=logs)
    demo.arrivals.append(arrival)
    return arrival


def _blob_url(demo: Demo, container: ContainerClient, path: str, etag: str) -> str:
    account = demo.blobs.account_name or ""
    return BlobVersion(account=account, container=container.container_name, path=path, etag=etag, size_bytes=1).url


def _scoring_pipeline(demo: Demo) -> str:
    if demo.scoring is None:
        raise DemoFailedError("no month was scored before")
    return demo.scoring.pipeline
