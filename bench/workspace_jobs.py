"""Prepares what both Functions need in the workspace: a job each, and a champion to score with."""

import base64
import json
import urllib.request
from typing import Any

from local.supervisor.settings import CloudSettings

__all__ = ["champion", "make_job", "newest_run"]

_MODEL = "main.tidegate.flight_delay"


def make_job(settings: CloudSettings, name: str) -> int:
    """Return the id of a new job with one notebook task; its runs only wait."""
    source = base64.b64encode(b"# Databricks notebook source\n").decode()
    notebook = {"path": "/bench/wait", "language": "PYTHON", "content": source, "overwrite": True}
    _call(settings, "POST", "/api/2.0/workspace/mkdirs", {"path": "/bench"})
    _call(settings, "POST", "/api/2.0/workspace/import", notebook)
    answer = _call(
        settings,
        "POST",
        "/api/2.2/jobs/create",
        {
            "name": name,
            "max_concurrent_runs": 1000,
            "queue": {"enabled": True},
            "tasks": [{"task_key": "wait", "notebook_task": {"notebook_path": "/bench/wait"}}],
        },
    )
    return int(answer["job_id"])


def champion(settings: CloudSettings) -> None:
    """Register version 1 of the committed pipelines' model as the champion, with nothing behind it."""
    for path, body in (
        ("registered-models/create", {"name": _MODEL}),
        ("model-versions/create", {"name": _MODEL, "source": "dbfs:/bench"}),
        ("registered-models/alias", {"name": _MODEL, "alias": "champion", "version": "1"}),
    ):
        _send(settings.url("mlflow"), "POST", f"/api/2.0/mlflow/{path}", body, {})


def newest_run(settings: CloudSettings, job_id: int) -> tuple[int, int] | None:
    """Return id and start (milliseconds since 1970) of the job's newest run, or None."""
    answer = _call(settings, "GET", f"/api/2.2/jobs/runs/list?job_id={job_id}&limit=1", None)
    runs = answer.get("runs", [])
    return (int(runs[0]["run_id"]), int(runs[0]["start_time"])) if runs else None


def _call(settings: CloudSettings, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {settings.databricks_token}"}
    return _send(settings.url("workspace"), method, path, body, headers)


def _send(base: str, method: str, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(
        base + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer
