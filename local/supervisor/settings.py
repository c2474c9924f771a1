"""Keeps the local cloud's ports and secrets, made at the first start, and derives what services and users need."""

import base64
import json
import os
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

__all__ = [
    "ACCOUNT",
    "CONTAINERS",
    "TOPIC",
    "CloudSettings",
    "NoCloudError",
    "load_settings",
    "make_settings",
    "save_settings",
]

ACCOUNT = "tidegatelocal"
TOPIC = "tidegate-completions"
INPUT_CONTAINER = "input"
SCORES_CONTAINER = "scores"
SYSTEM_CONTAINER = "tidegate"  # input manifests
DEAD_LETTER_CONTAINER = "deadletter"
CONTAINERS = (INPUT_CONTAINER, SCORES_CONTAINER, SYSTEM_CONTAINER, DEAD_LETTER_CONTAINER)


class NoCloudError(Exception):
    """The local cloud was never started in this state folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return "the local cloud has never been started here; start it with `make up` (or `tidegate up`)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """One local cloud: its ports and its secrets; everything else follows from them."""

    ports: Mapping[str, int]
    account_key: str  # base64, as Azure's
    databricks_token: str
    identity_header: str
    topic_key: str
    function_key: str
    master_key: str
    instrumentation_key: str

    def url(self, name: str) -> str:
        """Return the base URL of a service by its port's name."""
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def blob_endpoint(self) -> str:
        """The blob endpoint that everybody uses: the proxy that also publishes storage events."""
        return f"{self.url('storage_proxy')}/{ACCOUNT}"

    @property
    def queue_endpoint(self) -> str:
        """The queue endpoint, with the account in its path as Azurite wants it."""
        return f"{self.url('queue')}/{ACCOUNT}"

    @property
    def table_endpoint(self) -> str:
        """The table endpoint, likewise."""
        return f"{self.url('table')}/{ACCOUNT}"

    @property
    def storage_connection_string(self) -> str:
        """What the storage clients take; blobs go through the proxy."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={self.account_key};"
            f"BlobEndpoint={self.blob_endpoint};QueueEndpoint={self.queue_endpoint};"
            f"TableEndpoint={self.table_endpoint};"
        )

    @property
    def topic_endpoint(self) -> str:
        """Where completion events are published."""
        return f"{self.url('event_grid')}/topics/{TOPIC}/api/events"

    @property
    def app_insights_connection_string(self) -> str:
        """What the telemetry exporters take."""
        endpoint = self.url("app_insights")
        return f"InstrumentationKey={self.instrumentation_key};IngestionEndpoint={endpoint}/;LiveEndpoint={endpoint}/"

    def environment(self) -> dict[str, str]:
        """Return what any other tool needs to be pointed at this cloud, in the order in which it is printed."""
        return {
            "AZURE_STORAGE_CONNECTION_STRING": self.storage_connection_string,
            "DATABRICKS_HOST": self.url("workspace"),
            "DATABRICKS_TOKEN": self.databricks_token,
            "MLFLOW_TRACKING_URI": "databricks",  # as on Azure: through the workspace, with the two lines above
            "TIDEGATE_API_URL": self.url("functions"),  # the documented paths, as /api/runs, follow it
            "TIDEGATE_API_KEY": self.function_key,
            "EVENTGRID_TOPIC_ENDPOINT": self.topic_endpoint,
            "EVENTGRID_TOPIC_KEY": self.topic_key,
            "INPUT_CONTAINER": INPUT_CONTAINER,
            "SCORES_CONTAINER": SCORES_CONTAINER,
        }


def make_settings(ports: Mapping[str, int]) -> CloudSettings:
    """Return settings with new random secrets."""
    return CloudSettings(
        ports=dict(ports),
        account_key=base64.b64encode(secrets.token_bytes(64)).decode(),
        databricks_token=f"dapi{secrets.token_hex(16)}",
        identity_header=secrets.token_urlsafe(24),
        topic_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        function_key=secrets.token_urlsafe(32),
        master_key=secrets.token_urlsafe(32),
        instrumentation_key=str(uuid.uuid4()),
    )


def save_settings(path: Path, settings: CloudSettings) -> None:
    """Write the settings whole or not at all, readable by this user only."""
    document = asdict(settings)
    document["ports"] = dict(settings.ports)
    write_private(path, json.dumps(document, indent=2) + "\n")


def load_settings(path: Path) -> CloudSettings:
    """Return what was saved.

    Raises:
        NoCloudError: Nothing was saved, or what is there is not whole.
    """
    try:
        document = json.loads(path.read_text())
        return CloudSettings(**{field.name: document[field.name] for field in fields(CloudSettings)})
    except (FileNotFoundError, json.JSONDecodeError, KeyError) as error:
        raise NoCloudError(path) from error


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only this user can read."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    partial.replace(path)
