"""Says where a notebook runs, in the two forms in which libraries ask (MLflow, the Databricks SDK)."""

import json
from types import SimpleNamespace
from typing import Any

from runner.request import Request

__all__ = ["EntryPoint", "repl_context"]


class _Option:
    """Scala's Option, as far as Python code meets it."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def get(self) -> Any:
        """Return the value."""
        return self._value

    def isDefined(self) -> bool:  # noqa: N802
        """Say whether there is one."""
        return self._value is not None

    def getOrElse(self, other: Any) -> Any:  # noqa: N802
        """Return the value, or another."""
        return other if self._value is None else self._value


class _Tags:
    def __init__(self, tags: dict[str, str]) -> None:
        self._tags = tags

    def apply(self, name: str) -> str:
        """Return a tag's value."""
        return self._tags[name]

    def get(self, name: str) -> _Option:
        """Return a tag's value, if there is one."""
        return _Option(self._tags.get(name))


class Context:
    """What `dbutils.notebook.entry_point.getDbutils().notebook().getContext()` returns."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._tags = {
            "browserHostName": request.host.split("://")[-1],
            "jobId": str(request.job_id),
            "jobRunId": str(request.run_id),
            "multitaskParentRunId": str(request.run_id),
            "runId": str(request.task_run_id),
            "taskKey": request.task_key,
            "taskType": "notebook",
        }

    def notebookPath(self) -> _Option:  # noqa: N802
        """Return the notebook's path in the workspace."""
        return _Option(self._request.workspace_path)

    def apiUrl(self) -> _Option:  # noqa: N802
        """Return the workspace's URL."""
        return _Option(self._request.host)

    def apiToken(self) -> _Option:  # noqa: N802
        """Return the run's token."""
        return _Option(self._request.token)

    def tags(self) -> _Tags:
        """Return the tags: job, run, task."""
        return _Tags(self._tags)

    def currentRunId(self) -> _Option:  # noqa: N802
        """Return the id of the task's run."""
        return _Option(SimpleNamespace(id=lambda: self._request.task_run_id))

    def safeToJson(self) -> str:  # noqa: N802
        """Return the context without the token."""
        return json.dumps({"attributes": {"notebook_path": self._request.workspace_path, **self._tags}})

    def toJson(self) -> str:  # noqa: N802
        """Return the context."""
        return json.dumps({"extraContext": {"notebook_path": self._request.workspace_path}, "tags": self._tags})


class EntryPoint:
    """What `dbutils.notebook.entry_point` is on the platform: the way to the JVM's dbutils."""

    def __init__(self, request: Request) -> None:
        self._context = Context(request)

    def getDbutils(self) -> Any:  # noqa: N802
        """Return the JVM's dbutils, as far as its context goes."""
        notebook = SimpleNamespace(getContext=lambda: self._context)
        return SimpleNamespace(notebook=lambda: notebook)


def repl_context(request: Request) -> SimpleNamespace:
    """Return what `dbruntime.databricks_repl_context.get_context()` gives to MLflow."""
    return SimpleNamespace(
        apiToken=request.token,
        apiUrl=request.host,
        browserHostName=None,
        clusterId="local",
        currentRunId=str(request.task_run_id),
        idInJob=str(request.run_id),
        isInCluster=True,
        isInJob=True,
        isInNotebook=True,
        jobId=str(request.job_id),
        jobTaskType="notebook",
        jobType="NORMAL",
        notebookId=None,
        notebookPath=request.workspace_path,
        taskKey=request.task_key,
        workspaceId=None,
        workspaceUrl=None,
    )
