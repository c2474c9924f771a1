"""Builds the adapters of a run from environment.json and the notebook's dbutils."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from tidegate_mlops.environment import Environment, SecretName
from tidegate_mlops.errors import InvalidEnvironmentError
from tidegate_mlops.ports import Announcer, BlobStore, ExperimentRun, ModelRegistry
from tidegate_mlops.urls import BlobUrl

__all__ = ["DbUtils", "Services", "connect"]


class DbUtils(Protocol):
    """The parts of Databricks' dbutils that a run uses."""

    @property
    def widgets(self) -> Any:
        """Reads the run's parameters."""

    @property
    def secrets(self) -> Any:
        """Reads the workspace's secrets."""

    @property
    def credentials(self) -> Any:
        """Gives Unity Catalog's service credentials."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything outside that a run talks to, each behind its port."""

    store: BlobStore
    announcer: Announcer
    registry: Callable[[], ModelRegistry]
    start_experiment_run: Callable[[str, Mapping[str, str]], ExperimentRun]
    spark_place: Callable[[BlobUrl], str]
    app_insights_connection_string: str | None
    now: Callable[[], datetime]


def connect(environment: Environment, dbutils: DbUtils) -> Services:
    """Return the services of an environment; nothing is sent yet.

    The local cloud is reached by keys from the workspace's secrets, Azure by the service credential alone.
    """
    from azure.core.credentials import AzureKeyCredential

    from tidegate_mlops.azure_storage import AzureBlobStore
    from tidegate_mlops.event_grid import EventGridAnnouncer

    def secret(name: SecretName) -> str:
        return str(dbutils.secrets.get(scope=name.scope, key=name.key))

    def service_credential() -> Any:
        if environment.service_credential is None:
            raise InvalidEnvironmentError(
                "environment.json names neither a key for this service nor a service credential"
            )
        return dbutils.credentials.getServiceCredentialsProvider(environment.service_credential)

    def storage_credential(account: str) -> Any:
        local = environment.accounts.get(account)
        if local is None:
            return service_credential()
        return {"account_name": account, "account_key": secret(local.key_secret)}

    key_name = environment.eventgrid_key_secret
    topic_credential = AzureKeyCredential(secret(key_name)) if key_name else service_credential()
    endpoints = {name: account.blob_endpoint for name, account in environment.accounts.items()}
    insights = environment.app_insights_secret
    return Services(
        store=AzureBlobStore(endpoints, storage_credential),
        announcer=EventGridAnnouncer(environment.eventgrid_topic_endpoint, topic_credential),
        registry=_registry,
        start_experiment_run=lambda name, tags: _experiment_run(environment.experiment, name, tags),
        spark_place=lambda url: url.abfss,
        app_insights_connection_string=secret(insights) if insights else None,
        now=lambda: datetime.now(UTC),
    )


def _registry() -> ModelRegistry:
    _quieten_mlflow()
    from tidegate_mlops.mlflow_registry import MlflowRegistry

    return MlflowRegistry()


def _experiment_run(experiment: str, name: str, tags: Mapping[str, str]) -> ExperimentRun:
    _quieten_mlflow()
    from tidegate_mlops.mlflow_tracking import MlflowRun

    return MlflowRun(experiment, name=name, tags=tags)


def _quieten_mlflow() -> None:
    """Keep MLflow from reporting its use to its makers, and from drawing progress bars into the log of a job."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
