"""Holds the local cloud's subscriptions to what the control plane wants delivered."""

import json
from pathlib import Path
from typing import Any

from functions.core.decisions import COMMITTING_APIS
from local.event_grid.filters import parse_filter
from local.supervisor.folders import Folders
from local.supervisor.ports import PORT_NAMES
from local.supervisor.service_files import event_grid_file
from local.supervisor.settings import make_settings


def event(kind: str, api: str) -> dict[str, Any]:
    return {
        "subject": "/blobServices/default/containers/input/blobs/flights/new/a.parquet",
        "eventType": f"Microsoft.Storage.Blob{kind}",
        "data": {"api": api},
    }


def test_storage_announces_what_commits_a_file_and_nothing_else(tmp_path: Path) -> None:
    """R03: the filter of the subscription and the check in the code name the same calls; a rename is told by itself."""
    folders = Folders(state_dir=tmp_path)
    folders.make()
    file = event_grid_file(folders, make_settings(dict.fromkeys(PORT_NAMES, 20000)))
    subscriptions = json.loads(file.read_text())["subscriptions"]
    (arrivals,) = [found for found in subscriptions if found["name"] == "arrivals"]
    passes = parse_filter(arrivals["filter"]).matches

    apis = [
        *COMMITTING_APIS,
        "CreateFile",
        "SftpCreate",
        "SftpWrite",
        "AppendBlock",
        "AppendFile",
        "PutBlock",
        "CreateDirectory",
        "",
    ]

    assert {api for api in apis if passes(event("Created", api))} == COMMITTING_APIS
    assert passes(event("Renamed", "RenameFile"))
    assert passes(event("Renamed", "SftpRename"))
    assert not passes(event("Renamed", "RenameDirectory"))
    assert not passes(event("Deleted", "DeleteBlob"))
