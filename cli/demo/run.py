"""Runs the demo from the first step to the summary, and fails at the step that did not happen."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pyarrow as pa  # type: ignore[import-untyped] # it ships no types
import typer
from azure.storage.blob import BlobServiceClient
from databricks.sdk import WorkspaceClient
from rich.console import Console

from cli.cloud_commands import start
from cli.demo.context import Demo, DemoFailedError
from cli.demo.oddities import ask_over_http, send_broken_file, send_unwanted_file
from cli.demo.scoring import arrival_of, deliver_again, score
from cli.demo.subscriber import Subscriber
from cli.demo.summary import picture_of, show_summary
from cli.demo.training import train, upload_history
from cli.deploy.command import deploy
from cli.deploy.environment import local_target
from cli.failures import CommandError
from cli.ledger import open_ledger
from cli.wording import make_console
from local.cloud import Cloud
from local.demo_data.files import broken_file, history_files, new_file, unrouted_file
from local.demo_data.flights import FlightsNotFetchedError, read_flights
from local.setup.fetch_flights import FILE_NAME
from local.supervisor.folders import REPOSITORY
from local.supervisor.settings import INPUT_CONTAINER

__all__ = ["run_demo"]

_LOG_LINES = 25


def run_demo() -> None:
    """Run the demo; leave with exit code 1 and the log that matters if something did not happen."""
    began = time.monotonic()
    console = make_console()
    console.rule("[bold]Tidegate: a file lands, scores come back", align="left")
    try:
        flights = read_flights(REPOSITORY / ".tools" / "demo-data" / FILE_NAME)
    except FlightsNotFetchedError as error:
        raise CommandError(str(error)) from error
    with _prepared(console) as demo:
        try:
            _run_steps(demo, flights)
        except Exception as error:
            _tell_failure(demo, error)
            if isinstance(error, DemoFailedError):
                raise typer.Exit(1) from error
            raise
    console.print(f"\nAll of it happened, in {time.monotonic() - began:.0f} s:", highlight=False)
    for title, seconds in demo.timings.items():
        console.print(f"  {seconds:6.1f} s  {title}", highlight=False)
    console.print(
        "\nThe local cloud keeps running; stop it with [bold]make down[/bold]. "
        'Send it a file of your own with the settings of [bold]eval "$(.venv/bin/tidegate env --export)"[/bold].'
    )


@contextmanager
def _prepared(console: Console) -> Iterator[Demo]:
    """Give a running cloud with the sources of this clone deployed to it, and a subscriber that listens."""
    began = time.monotonic()
    start(console=console)
    up_s = time.monotonic() - began
    cloud = Cloud()
    settings = cloud.running_settings()
    console.print()
    console.rule("[bold]Deploy as to Azure: wheels, notebooks, jobs", align="left")
    began = time.monotonic()
    deploy(local_target(settings), console=console)
    subscriber = Subscriber(settings, INPUT_CONTAINER)
    subscriber.start()
    try:
        demo = Demo(
            console=console,
            cloud=cloud,
            settings=settings,
            ledger=open_ledger(settings),
            blobs=BlobServiceClient.from_connection_string(settings.storage_connection_string),
            workspace=WorkspaceClient(host=settings.url("workspace"), token=settings.databricks_token, auth_type="pat"),
            subscriber=subscriber,
            started_at=datetime.now(UTC),
        )
        demo.timings |= {"start the local cloud": up_s, "deploy": time.monotonic() - began}
        demo.good("a subscriber listens to the completion topic; it passed Event Grid's handshake")
        yield demo
    finally:
        subscriber.stop()


def _run_steps(demo: Demo, flights: pa.Table) -> None:
    container = demo.blobs.get_container_client(INPUT_CONTAINER)
    with demo.doing("Train: the retraining schedule's slot comes due"):
        upload_history(demo, container, list(history_files(flights)))
        train(demo)
    with demo.doing("Score: a month of flights lands"):
        june = new_file(flights, 6, "2013-06")
        etag = score(demo, container, june)
    with demo.doing("Deliver the same event twice more"):
        deliver_again(demo, INPUT_CONTAINER, june, etag, times=2)
        if (arrival := arrival_of(demo, INPUT_CONTAINER, june.path, etag)) is not None:
            demo.arrivals.append(arrival)
    with demo.doing("Ask for a run over HTTP"):
        ask_over_http(demo, container, new_file(flights, 8, "asked-for/2013-08"))
    with demo.doing("Send a broken file"):
        send_broken_file(demo, container, broken_file(flights, 7, "2013-07"))
    with demo.doing("Leave a file that no route wants"):
        send_unwanted_file(demo, container, unrouted_file("readme"))
    with demo.doing("Look at the model's quality"):
        assert demo.training is not None  # noqa: S101 - trained above
        picture = picture_of(demo, demo.training)
        demo.good(f"picture of the model's quality, from MLflow: {picture}")
    show_summary(demo, picture)


def _tell_failure(demo: Demo, error: Exception) -> None:
    """Name the step, and show the end of the logs that matter."""
    console = demo.console
    console.print(f"\n[red bold]The demo failed at the step “{demo.step}”.[/red bold]")
    console.print(f"{error}", highlight=False, markup=False, soft_wrap=True)
    logs = error.logs if isinstance(error, DemoFailedError) else ("functions_host",)
    if isinstance(error, DemoFailedError) and error.detail:
        console.print(f"\n--- the notebook\n{error.detail}", highlight=False, markup=False, soft_wrap=True)
    for service in logs:
        tail = demo.cloud.log_tail(service, _LOG_LINES)
        console.print(f"\n--- the end of {demo.cloud.folders.log(service)}", highlight=False, markup=False)
        console.print(tail, highlight=False, markup=False, soft_wrap=True)
