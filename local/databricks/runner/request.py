"""Reads what the workspace asks the runner to do."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Request", "RequestError", "Storage", "read_request"]


class RequestError(Exception):
    """The request file is not what the contract says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """The one storage account of the local cloud, on loopback."""

    account: str
    key: str = field(repr=False)
    blob_port: int

    @property
    def endpoint(self) -> str:
        """The blob endpoint in the form that carries the account in the path."""
        return f"http://127.0.0.1:{self.blob_port}/{self.account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One attempt of one notebook task; the field names are those of the request file."""

    run_id: int
    task_run_id: int
    job_id: int
    task_key: str
    notebook_path: str
    notebook_file: Path
    workspace_root: Path
    dbfs_root: Path
    volumes_root: Path
    parameters: dict[str, str]
    env: dict[str, str]
    spark_jars_dir: Path
    storage: Storage
    result_file: Path
    output_dir: Path
    host: str
    token: str = field(repr=False)
    task_values: dict[str, dict[str, Any]] = field(default_factory=dict)  # what earlier tasks of the run have set
    raw: dict[str, Any] = field(default_factory=dict, repr=False)  # for the notebooks that this one runs

    @property
    def workspace_path(self) -> str:
        """The notebook's path without the /Workspace prefix, as the platform's context gives it."""
        return self.notebook_path.removeprefix("/Workspace") or "/"


def read_request(path: Path) -> Request:
    """Return the request.

    Raises:
        RequestError: The file is missing, is no JSON, or a field is missing; the text names which.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        storage = raw["storage"]
        return Request(
            run_id=int(raw["run_id"]),
            task_run_id=int(raw["task_run_id"]),
            job_id=int(raw["job_id"]),
            task_key=str(raw["task_key"]),
            notebook_path=str(raw["notebook_path"]),
            notebook_file=Path(raw["notebook_file"]).absolute(),
            workspace_root=Path(raw["workspace_root"]).absolute(),
            dbfs_root=Path(raw["dbfs_root"]).absolute(),
            volumes_root=Path(raw["volumes_root"]).absolute(),
            parameters={str(name): str(value) for name, value in raw["parameters"].items()},
            env={str(name): str(value) for name, value in raw["env"].items()},
            spark_jars_dir=Path(raw["spark_jars_dir"]).absolute(),
            storage=Storage(
                account=str(storage["account"]), key=str(storage["key"]), blob_port=int(storage["blob_port"])
            ),
            result_file=Path(raw["result_file"]).absolute(),
            output_dir=Path(raw["output_dir"]).absolute(),
            host=str(raw["host"]).rstrip("/"),
            token=str(raw["token"]),
            task_values=dict(raw.get("task_values") or {}),
            raw=raw,
        )
    except (OSError, json.JSONDecodeError) as error:
        raise RequestError(f"cannot read the request {path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RequestError(f"the request {path} lacks or has a wrong field: {error!r}") from error
