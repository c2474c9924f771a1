"""Creates the queues, tables and containers of the local cloud; harmless to repeat."""

import argparse
import sys
from pathlib import Path

from azure.core.exceptions import ResourceExistsError
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from local.supervisor.folders import Folders
from local.supervisor.settings import ACCOUNT, CONTAINERS, CloudSettings, load_settings

__all__ = ["QUEUES", "TABLES", "main", "provision"]

QUEUES = (
    "arrivals", "arrivals-poison", "dispatch", "dispatch-poison", "completions", "completions-poison",
)  # fmt: skip
TABLES = tuple(
    f"tidegate{name}"
    for name in ("arrivals", "pending", "paths", "redeliveries", "timeline", "runs", "open", "marks", "operations")
)


def provision(settings: CloudSettings) -> None:
    """Create what is missing, straight at Azurite: the proxy in front of it may not be up yet."""
    endpoints = {
        "BlobEndpoint": f"{settings.url('blob')}/{ACCOUNT}",
        "QueueEndpoint": settings.queue_endpoint,
        "TableEndpoint": settings.table_endpoint,
    }
    connection = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={settings.account_key};"
    connection += "".join(f"{name}={url};" for name, url in endpoints.items())
    with QueueServiceClient.from_connection_string(connection) as queues:
        for queue in QUEUES:
            try:
                queues.create_queue(queue)
            except ResourceExistsError:
                continue
    with TableServiceClient.from_connection_string(connection) as tables:
        for table in TABLES:
            tables.create_table_if_not_exists(table)
    with BlobServiceClient.from_connection_string(connection) as blobs:
        for container in CONTAINERS:
            try:
                blobs.create_container(container)
            except ResourceExistsError:
                continue


def main(arguments: list[str] | None = None) -> int:
    """Provision the cloud of a state folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    options = parser.parse_args(arguments)
    provision(load_settings(Folders(state_dir=options.state_dir).settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
