"""Puts the parts of `dbutils` together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from runner.endings import PythonRestart
from runner.request import Request

from .fs import FileSystems
from .jobs import Jobs, TaskValues
from .notebook import NotebookTools
from .paths import RootedPaths
from .secrets import Secrets
from .widgets import Widgets

__all__ = ["DBUtils"]


class _Library:
    def restartPython(self) -> NoReturn:  # noqa: N802
        """Go on with the next cell in a fresh Python process; Spark and the widgets stay."""
        raise PythonRestart

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"dbutils.library.{name} is not implemented locally: use %pip")


class _Credentials:
    def getServiceCredentialsProvider(self, credential_name: str) -> NoReturn:  # noqa: N802
        """Refuse: service credentials belong to Unity Catalog, and the local workspace has none configured."""
        raise PermissionError(
            f"service credential {credential_name!r} does not exist: none is configured in the local workspace, "
            "where environment.json names keys of a secret scope instead"
        )


class DBUtils:
    """`dbutils`."""

    def __init__(self, request: Request, *, spark: Callable[[], Any], cluster_python: Path) -> None:
        paths = RootedPaths(request)
        self._request = request
        self.widgets = Widgets(request.parameters)
        self.fs = FileSystems(paths, spark)
        self.secrets = Secrets(request.host, request.token)
        self.notebook = NotebookTools(request, paths, cluster_python)
        self.task_values = TaskValues(request.task_values)
        self.jobs = Jobs(self.task_values)
        self.library = _Library()
        self.credentials = _Credentials()
        self.entry_point = self.notebook.entry_point

    def getArgument(self, name: str, defaultValue: str | None = None) -> str:  # noqa: N802, N803
        """Return a widget's value, or the default (the old way)."""
        return self.widgets.getArgument(name, defaultValue)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"dbutils.{name} is not implemented by the local workspace")
