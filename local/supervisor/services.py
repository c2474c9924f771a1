"""Lists the services of the local cloud: how each is started, what it needs, and how it says that it is ready."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.supervisor.folders import REPOSITORY, Folders
from local.supervisor.service_files import event_grid_file, functions_file, workspace_file
from local.supervisor.settings import ACCOUNT, CloudSettings

__all__ = ["Probe", "Service", "child_environ", "cloud_services"]

# Settings of a real cloud that the user's shell may carry; none of them may reach the local one.
_FOREIGN_PREFIXES = (
    "AZURE_", "ARM_", "DATABRICKS_", "MLFLOW_", "APPLICATIONINSIGHTS_", "IDENTITY_", "MSI_", "EVENTGRID_", "TIDEGATE_",
    "OTEL_", "SPARK_", "PYSPARK_", "AzureWebJobs", "AzureFunctions", "WEBSITE_", "FUNCTIONS_", "PYTHONPATH",
    "PYTHONHOME", "PYTHONSTARTUP", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV",
)  # fmt: skip
_LOOPBACK = "127.0.0.1,localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A URL that answers when the service is ready; Azurite answers every anonymous request with an error."""

    url: str
    any_status: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process of the local cloud, or one piece of work at its start."""

    name: str
    title: str
    command: tuple[str, ...]
    url: str
    ports: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    is_one_shot: bool = False  # ready when it has exited with 0
    ready_timeout_s: float = 60.0
    grace_s: float = 6.0  # every service promises to end within 5 s


def cloud_services(folders: Folders, settings: CloudSettings) -> tuple[Service, ...]:
    """Return the services in an order in which each comes after those that it needs; writes their files."""
    return (
        _azurite(folders, settings),
        _mlflow(folders, settings),
        _app_insights(folders, settings),
        Service(
            name="provision",
            title="queues, tables and containers",
            command=(sys.executable, "-m", "local.supervisor.provision", "--state-dir", str(folders.state_dir)),
            url="",
            needs=("azurite",),
            is_one_shot=True,
        ),
        _event_grid(folders, settings),
        _workspace(folders, settings),
        _functions_host(folders, settings),
    )


def child_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of every service: the user's, without what points at another cloud."""
    kept = {name: value for name, value in environ.items() if not name.startswith(_FOREIGN_PREFIXES)}
    without_proxy = kept.get("NO_PROXY") or kept.get("no_proxy")
    kept["NO_PROXY"] = kept["no_proxy"] = f"{_LOOPBACK},{without_proxy}" if without_proxy else _LOOPBACK
    kept["PYTHONUNBUFFERED"] = "1"
    return kept


def _azurite(folders: Folders, settings: CloudSettings) -> Service:
    tools = REPOSITORY / ".tools"
    ports = settings.ports
    command = [_node(tools), str(tools / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "azurite.js")]
    for service in ("blob", "queue", "table"):
        command += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(ports[service])]
    command += ["--location", str(folders.of("azurite")), "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    return Service(
        name="azurite",
        title="storage: blobs, queues, tables (Azurite)",
        command=tuple(command),
        url=settings.blob_endpoint,
        ports=("blob", "queue", "table"),
        probes=tuple(Probe(url=f"{settings.url(name)}/", any_status=True) for name in ("blob", "queue", "table")),
        environ={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{settings.account_key}"},
    )


def _node(tools: Path) -> str:
    """Return the Node that set-up chose."""
    chosen = tools / "node"
    return str(chosen) if chosen.exists() else "node"


def _mlflow(folders: Folders, settings: CloudSettings) -> Service:
    state = folders.of("mlflow")
    command = (
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(settings.ports["mlflow"]),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{state / 'mlflow.db'}",
        "--default-artifact-root", "dbfs:/databricks/mlflow-tracking",
    )  # fmt: skip
    return Service(
        name="mlflow",
        title="experiments and models (MLflow)",
        command=command,
        url=settings.url("mlflow"),
        ports=("mlflow",),
        probes=(Probe(url=f"{settings.url('mlflow')}/health"),),
        environ={
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "DATABRICKS_HOST": settings.url("workspace"),  # artifacts are the workspace's: its pages show them
            "DATABRICKS_TOKEN": settings.databricks_token,
        },
        ready_timeout_s=120.0,
    )


def _app_insights(folders: Folders, settings: CloudSettings) -> Service:
    return Service(
        name="app_insights",
        title="telemetry (Application Insights)",
        command=_ours("local.app_insights", folders.of("app_insights"), settings.ports["app_insights"]),
        url=settings.url("app_insights"),
        ports=("app_insights",),
        probes=(Probe(url=f"{settings.url('app_insights')}/"),),
    )


def _event_grid(folders: Folders, settings: CloudSettings) -> Service:
    command = _ours("local.event_grid", folders.of("event_grid"), settings.ports["event_grid"])
    extra = ("--storage-proxy-port", str(settings.ports["storage_proxy"]))
    return Service(
        name="event_grid",
        title="events, and the blob endpoint that announces them (Event Grid)",
        command=(*command, *extra, "--config", str(event_grid_file(folders, settings))),
        url=settings.url("event_grid"),
        ports=("event_grid", "storage_proxy"),
        needs=("azurite",),
        probes=(
            Probe(url=f"{settings.url('event_grid')}/health"),
            Probe(url=f"{settings.url('storage_proxy')}/", any_status=True),
        ),
    )


def _workspace(folders: Folders, settings: CloudSettings) -> Service:
    command = _ours("local.databricks", folders.of("databricks"), settings.ports["workspace"])
    return Service(
        name="workspace",
        title="jobs, notebooks, secrets (Databricks workspace)",
        command=(*command, "--config", str(workspace_file(folders, settings))),
        url=settings.url("workspace"),
        ports=("workspace",),
        probes=(Probe(url=f"{settings.url('workspace')}/health"),),
    )


def _functions_host(folders: Folders, settings: CloudSettings) -> Service:
    command = (
        sys.executable, "-m", "local.functions_host", "--app-dir", str(REPOSITORY),
        "--port", str(settings.ports["functions"]), "--settings", str(functions_file(folders, settings)),
    )  # fmt: skip
    return Service(
        name="functions_host",
        title="the control plane (Functions host)",
        command=command,
        url=settings.url("functions"),
        ports=("functions",),
        needs=("azurite", "provision", "event_grid", "app_insights", "workspace", "mlflow"),
        probes=(Probe(url=f"{settings.url('functions')}/admin/host/ping"),),
    )


def _ours(module: str, state_dir: Path, port: int) -> tuple[str, ...]:
    return (sys.executable, "-m", module, "--port", str(port), "--state-dir", str(state_dir))
