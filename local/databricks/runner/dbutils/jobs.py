"""Passes values from task to task: `dbutils.jobs.taskValues`."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["Jobs", "TaskValues"]

_MAX_BYTES = 48 * 1024


class TaskValues:
    """What this task sets, and what earlier tasks of the run have set."""

    def __init__(self, earlier: Mapping[str, Mapping[str, Any]]) -> None:
        self._earlier = earlier
        self.own: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        """Set a value for later tasks; it must be JSON of at most 48 KiB."""
        size = len(json.dumps(value).encode("utf-8"))
        if size > _MAX_BYTES:
            raise ValueError(f"the task value {key!r} has {size} bytes as JSON, at most {_MAX_BYTES} are allowed")
        self.own[key] = value

    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:  # noqa: ARG002, N803
        """Return what a task has set, or the default.

        Raises:
            ValueError: There is neither the value nor a default.
        """
        values = self._earlier.get(taskKey, {})
        if key in values:
            return values[key]
        if default is None:
            raise ValueError(f"No task value with task key {taskKey} and key {key} was found")
        return default


class Jobs:
    """`dbutils.jobs`."""

    def __init__(self, task_values: TaskValues) -> None:
        self.taskValues = task_values
