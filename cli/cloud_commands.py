"""Starts, stops and shows the local cloud for a person at a terminal."""

import json
import shlex
import time
from dataclasses import asdict

import typer
from rich.console import Console

from cli.failures import CommandError
from cli.functions_health import health_lines, problems_of
from cli.wording import make_console, make_table
from local.cloud import Cloud
from local.supervisor.status import CloudState, CloudStatus, ServiceState

__all__ = ["bring_up", "print_environment", "print_log", "show_status", "start", "stop"]

NOT_RUNNING = 3  # exit code of `status`, as of a stopped system service
_COLOURS = {
    ServiceState.READY: "green",
    ServiceState.FAILED: "red",
    ServiceState.RESTARTING: "yellow",
}
_NAMES = {
    "azurite": "Storage",
    "mlflow": "MLflow",
    "app_insights": "Telemetry",
    "event_grid": "Event Grid",
    "workspace": "Databricks workspace",
    "functions_host": "Functions",
}


def bring_up(port_base: int | None) -> None:
    """Start the cloud, and tell what its Functions and jobs lack."""
    from cli.deploy.environment import local_target
    from cli.deploy.freshness import is_stale

    console = make_console()
    start(port_base, console)
    settings = Cloud().running_settings()
    if port_base is not None and settings.ports["functions"] != port_base:
        console.print("It stays where it was started; for other ports: `make down`, then the same command again.")
    if not _print_health(console) and is_stale(local_target(settings)):
        console.print(
            "The jobs were deployed to other ports, so their runs would fail: `.venv/bin/tidegate deploy`.",
            style="yellow",
        )


def start(port_base: int | None = None, console: Console | None = None) -> CloudStatus:
    """Start the cloud, telling each service as it becomes ready."""
    console = console or make_console()
    cloud = Cloud()
    if cloud.is_running() and (status := cloud.status()) is not None and status.state is CloudState.READY:
        console.print("The local cloud is already running.")
        _print_services(status, console)
        return status
    console.print("Starting the local cloud ...")
    began = time.monotonic()
    told: set[str] = set()

    def report(status: CloudStatus) -> None:
        for name, service in status.services.items():
            if name in _NAMES and service.state is ServiceState.READY and name not in told:
                told.add(name)
                console.print(f"  [{time.monotonic() - began:4.1f} s] {_NAMES[name]} is ready", markup=False)

    status = cloud.up(port_base=port_base, report=report)
    console.print(f"The local cloud is ready after {time.monotonic() - began:.1f} s; stop it with `make down`.")
    _print_services(status, console)
    return status


def stop() -> None:
    """Stop the cloud."""
    was_running = Cloud().down()
    typer.echo("The local cloud is stopped; its state is kept." if was_running else "The local cloud is not running.")


def show_status(*, as_json: bool) -> None:
    """Print the services; leave with exit code 3 if the cloud does not run, 1 if it is not ready."""
    status = Cloud().status()
    if as_json:
        typer.echo(json.dumps({"state": "stopped"} if status is None else asdict(status)))
    elif status is None:
        typer.echo("The local cloud is not running; start it with `make up`.")
    else:
        console = make_console()
        console.print(f"The local cloud is {status.state.value}, since {status.started_at[:19]}Z.")
        _print_services(status, console)
        if status.state is CloudState.READY:
            _print_health(console)
    if status is None:
        raise typer.Exit(NOT_RUNNING)
    if status.state is not CloudState.READY or any(s.state is not ServiceState.READY for s in status.services.values()):
        raise typer.Exit(1)


def print_environment(*, export: bool) -> None:
    """Print the settings, one a line."""
    for name, value in Cloud().running_settings().environment().items():
        typer.echo(f"export {name}={shlex.quote(value)}" if export else f"{name}={value}")


def print_log(service: str, lines: int) -> None:
    """Print the end of one service's log, or which there are."""
    cloud = Cloud()
    known = sorted(path.stem for path in cloud.folders.logs.glob("*.log"))
    if not service:
        typer.echo("\n".join(known) or "There is no log yet; start the local cloud with `make up`.")
    elif service not in known:
        raise CommandError(f"no log of {service!r}; there are: {', '.join(known) or 'none yet'}")
    else:
        typer.echo(cloud.log_tail(service, lines))


def _print_health(console: Console) -> bool:
    """Print what the Functions lack; return whether they lack anything."""
    lines = health_lines(problems_of(Cloud().running_settings()))
    for line in lines:
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    return bool(lines)


def _print_services(status: CloudStatus, console: Console) -> None:
    table = make_table("Service", "State", "Where", "Restarts")
    for name, service in status.services.items():
        if name not in _NAMES:
            continue
        colour = _COLOURS.get(service.state, "default")
        table.add_row(name, f"[{colour}]{service.state.value}[/{colour}]", service.url, str(service.restarts or ""))
    console.print(table)
