"""Builds the control plane from settings and adapters, lazily and once."""

import functools
import logging
import os
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.core.errors import InvalidConfigurationError, InvalidSettingsError, Problem
from functions.core.model import JobKey
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from functions.settings import Settings, parse_settings

if TYPE_CHECKING:
    from functions.adapters.telemetry import SpanTelemetry
    from functions.services.plane import ControlPlane

__all__ = [
    "Configuration",
    "configuration",
    "control_plane",
    "load_configuration",
    "new_request_id",
    "reconcile_schedule",
]

_APP_DIR: Final = Path(__file__).parents[1]
_DEADLETTER: Final = "deadletter"
_CHATTY: Final = ("azure", "databricks", "urllib3")  # they log every request and its headers, ten lines an arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What the app was told; with mistakes, nothing but the health endpoint works."""

    settings: Settings | None
    pipelines: Pipelines | None
    problems: tuple[Problem, ...]

    def require(self) -> tuple[Settings, Pipelines]:
        """Return settings and pipelines; raises InvalidSettingsError with every mistake of both."""
        if self.settings is None or self.pipelines is None:
            raise InvalidSettingsError(self.problems)
        return self.settings, self.pipelines


def load_configuration(app_dir: Path = _APP_DIR) -> Configuration:
    """Return the settings and `pipelines.toml`, or everything that is wrong with both; reads nothing else."""
    problems: list[Problem] = []
    settings, pipelines = None, None
    file = app_dir / (os.environ.get("TIDEGATE_PIPELINES_FILE") or "pipelines.toml")
    try:
        settings = parse_settings(os.environ, app_dir=app_dir)
    except InvalidSettingsError as error:
        problems += error.problems
    try:
        known_jobs = [JobKey(template.stem) for template in sorted((app_dir / "job_templates").glob("*.json"))]
        pipelines = parse_pipelines(file.read_bytes(), file=file.name, known_jobs=known_jobs)
    except InvalidConfigurationError as error:
        problems += error.problems
    except OSError as error:
        problems.append(Problem(file.name, error.strerror or type(error).__name__, "a file that can be read"))
    return Configuration(settings=settings, pipelines=pipelines, problems=tuple(problems))


@functools.cache
def configuration() -> Configuration:
    """Return what the app was told when it started; by that it listens, or does not, until it is restarted."""
    return load_configuration()


def reconcile_schedule(settings: Settings) -> str:
    """Return when the reconciler runs: each minute, each quarter of one on the local cloud, or as the setting says."""
    local = "*/15 * * * * *" if settings.environment == "local" else "0 * * * * *"
    return os.environ.get("TIDEGATE_RECONCILE_SCHEDULE") or local


def new_request_id() -> str:
    """Return the identity of a request whose caller gave it none."""
    return uuid.uuid4().hex


_lock = threading.Lock()
_plane: "ControlPlane | None" = None


def control_plane() -> "ControlPlane":
    """Return the app's control plane; raises InvalidSettingsError with every mistake of the configuration.

    Making it connects to nothing: each adapter's SDK is imported and its client made when it is first used.
    """
    global _plane  # noqa: PLW0603 - one per process is what keeps connections, tokens and clients
    with _lock:
        if _plane is None:
            _plane = _build(*configuration().require())
        return _plane


def _build(settings: Settings, pipelines: Pipelines) -> "ControlPlane":
    from functions.adapters.blobs import BlobInputs, BlobManifests
    from functions.adapters.clock import SystemClock
    from functions.adapters.databricks import DatabricksJobs, DatabricksModels, Workspace
    from functions.adapters.dead_letters import BlobDeadLetters
    from functions.adapters.event_grid import EventGridCompletions
    from functions.adapters.grouped_tables import GroupedTables
    from functions.adapters.storage import StorageAccount
    from functions.adapters.table_ledger import TableLedger
    from functions.adapters.table_operations import TableOperations
    from functions.adapters.table_signals import TableSignals
    from functions.adapters.tables import AzureTables
    from functions.adapters.work_queue import StorageWorkQueue
    from functions.core.pipelines import CONTROL_CONTAINER
    from functions.services.plane import ControlPlane
    from functions.services.together import Together

    for library in _CHATTY:
        logging.getLogger(library).setLevel(logging.WARNING)
    connection = settings.storage.connection_string
    storage = StorageAccount(
        connection_string=connection,
        account=settings.storage.account if connection is None else None,
        client_id=settings.azure_client_id,
    )
    tables = GroupedTables(AzureTables(storage, prefix=settings.table_prefix))
    workspace = Workspace(settings.databricks_host, client_id=settings.azure_client_id)
    return ControlPlane(
        changes=Together(),
        environment=settings.environment,
        account=settings.storage.account,
        pipelines=pipelines,
        operations=TableOperations(tables),
        ledger=TableLedger(tables),
        signals=TableSignals(tables),
        submitter=DatabricksJobs(workspace, environment=settings.environment, templates=_APP_DIR / "job_templates"),
        models=DatabricksModels(workspace),
        inputs=BlobInputs(storage),
        manifests=BlobManifests(storage, container=CONTROL_CONTAINER),
        queue=StorageWorkQueue(storage, queue=settings.dispatch_queue),
        publisher=EventGridCompletions(
            settings.eventgrid_topic_endpoint,
            key=settings.eventgrid_topic_key,
            client_id=settings.azure_client_id,
        ),
        quarantine=BlobDeadLetters(storage, container=_DEADLETTER),
        telemetry=_telemetry(settings),
        clock=SystemClock(),
        are_roles_required=settings.are_roles_required,
        retention=settings.retention,
    )


def _telemetry(settings: Settings) -> "SpanTelemetry":
    from functions.adapters.telemetry import SpanTelemetry, azure_monitor_exporter

    connection = settings.applicationinsights_connection_string
    if connection is None:
        return SpanTelemetry(None)
    # The host's own setting for a component without local authentication.
    is_signed_in = "Authorization=AAD" in os.environ.get("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "")
    return SpanTelemetry(
        lambda: azure_monitor_exporter(connection, client_id=settings.azure_client_id, is_signed_in=is_signed_in)
    )
