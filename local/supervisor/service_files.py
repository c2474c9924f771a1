"""Writes the configuration file of each service from the cloud's settings."""

import json
from pathlib import Path
from typing import Any

from local.supervisor.folders import REPOSITORY, Folders
from local.supervisor.settings import (
    ACCOUNT,
    DEAD_LETTER_CONTAINER,
    SYSTEM_CONTAINER,
    TOPIC,
    CloudSettings,
    write_private,
)

__all__ = ["event_grid_file", "functions_file", "workspace_file"]

# Blob Storage announces a file once it is whole; CreateFile and the appends before FlushWithClose are not wanted.
_APIS_OF_WHOLE_FILES = (
    "PutBlob",
    "PutBlockList",
    "CopyBlob",
    "FlushWithClose",
    "SftpCommit",
    "RenameFile",
    "SftpRename",
)
_CONTAINERS = "/blobServices/default/containers"


def event_grid_file(folders: Folders, settings: CloudSettings) -> Path:
    """Write topics and subscriptions: arrivals from storage, completions from the topic, both to queues.

    Only the control plane's own bookkeeping is filtered out of the arrivals. Scores are not, on purpose:
    that an output never starts a run is for the control plane to decide and to record.
    """
    own = [SYSTEM_CONTAINER + "/", DEAD_LETTER_CONTAINER + "/", "azure-webjobs-"]
    retry = {"max_delivery_attempts": 30, "event_ttl_minutes": 1440}
    return _write(
        folders.config / "event_grid.json",
        {
            "account": ACCOUNT,
            "account_key": settings.account_key,
            "azurite_blob": settings.url("blob"),
            "queue_endpoint": settings.queue_endpoint,
            "blob_endpoint": settings.blob_endpoint,
            "time_scale": 0.1,  # a restarted Azurite or subscriber is tried again after 1 s instead of Azure's 10
            "topics": [{"name": TOPIC, "key": settings.topic_key, "input_schema": "CloudEventSchemaV1_0"}],
            "subscriptions": [
                {
                    "name": "arrivals",
                    "source": "storage",
                    "destination": {"type": "StorageQueue", "queue": "arrivals"},
                    "event_schema": "EventGridSchema",
                    "filter": {
                        "includedEventTypes": ["Microsoft.Storage.BlobCreated", "Microsoft.Storage.BlobRenamed"],
                        "advancedFilters": [
                            {"operatorType": "StringIn", "key": "data.api", "values": list(_APIS_OF_WHOLE_FILES)},
                            {
                                "operatorType": "StringNotBeginsWith",
                                "key": "subject",
                                "values": [f"{_CONTAINERS}/{name}" for name in own],
                            },
                        ],
                    },
                    "retry": retry,
                    "dead_letter_container": DEAD_LETTER_CONTAINER,
                },
                {
                    "name": "completions",
                    "source": TOPIC,
                    "destination": {"type": "StorageQueue", "queue": "completions"},
                    "event_schema": "CloudEventSchemaV1_0",
                    "filter": {},
                    "retry": retry,
                    "dead_letter_container": DEAD_LETTER_CONTAINER,
                },
            ],
        },
    )


def workspace_file(folders: Folders, settings: CloudSettings) -> Path:
    """Write what the Databricks workspace needs."""
    return _write(
        folders.config / "workspace.json",
        {
            "token": settings.databricks_token,
            "identity_header": settings.identity_header,
            "mlflow_url": settings.url("mlflow"),
            "cluster_python": str(REPOSITORY / ".venv-cluster" / "bin" / "python"),
            "spark_jars_dir": str(REPOSITORY / ".tools" / "spark-jars"),
            "storage": {
                "account": ACCOUNT,
                "key": settings.account_key,
                "blob_port": settings.ports["storage_proxy"],
            },
            "app_insights_connection_string": settings.app_insights_connection_string,
        },
    )


def functions_file(folders: Folders, settings: CloudSettings) -> Path:
    """Write the app settings in the format of local.settings.json, with the host's keys.

    There is no Databricks token in them: the app asks for a managed identity's token, as on Azure.
    """
    values = {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "PYTHON_THREADPOOL_THREAD_COUNT": "32",  # as many as host.json lets the worker have messages at a time
        "AzureWebJobsStorage": settings.storage_connection_string,
        "AzureFunctionsWebHost__hostid": "tidegate-local",  # else it follows the folder, and timers forget their past
        "AzureFunctionsJobHost__extensions__queues__maxPollingInterval": "00:00:00.200",
        "TIDEGATE_RECONCILE_SCHEDULE": "*/15 * * * * *",
        "TIDEGATE_STORAGE": settings.storage_connection_string,
        "TIDEGATE_ENVIRONMENT": "local",
        "DATABRICKS_HOST": settings.url("workspace"),
        "IDENTITY_ENDPOINT": f"{settings.url('workspace')}/msi/token",
        "IDENTITY_HEADER": settings.identity_header,
        "EVENTGRID_TOPIC_ENDPOINT": settings.topic_endpoint,
        "EVENTGRID_TOPIC_KEY": settings.topic_key,
        "APPLICATIONINSIGHTS_CONNECTION_STRING": settings.app_insights_connection_string,
    }
    keys = {"default": settings.function_key, "master": settings.master_key}
    host = {"Keys": keys, "QueueLease": "00:00:30"}  # what a killed host was doing comes back soon, not in 10 minutes
    return _write(folders.config / "functions.settings.json", {"IsEncrypted": False, "Values": values, "Host": host})


def _write(path: Path, document: dict[str, Any]) -> Path:
    write_private(path, json.dumps(document, indent=2) + "\n")
    return path
