"""Holds what the demo's steps share, and how a step fails."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from azure.storage.blob import BlobServiceClient
from databricks.sdk import WorkspaceClient
from rich.console import Console

from cli.demo.subscriber import Subscriber
from cli.ledger import Ledger
from functions.core.ledger import Arrival, Run
from local.cloud import Cloud
from local.supervisor.settings import CloudSettings

__all__ = ["Demo", "DemoFailedError", "until"]

_POLL_S = 0.25


class DemoFailedError(Exception):
    """Something that the demo promises did not happen."""

    def __init__(self, what: str, *, logs: tuple[str, ...] = ("functions_host",), detail: str = "") -> None:
        super().__init__(what, logs, detail)
        self.what = what
        self.logs = logs  # services whose log ends are worth showing
        self.detail = detail  # a longer text: a notebook's error, say

    def __str__(self) -> str:
        return self.what


@dataclass(kw_only=True)
class Demo:
    """The running cloud, seen from its users' side, and what the steps have found so far."""

    console: Console
    cloud: Cloud
    settings: CloudSettings
    ledger: Ledger
    blobs: BlobServiceClient
    workspace: WorkspaceClient
    subscriber: Subscriber
    started_at: datetime
    step: str = "preparing"
    timings: dict[str, float] = field(default_factory=dict[str, float])  # seconds by what was timed
    runs: list[Run] = field(default_factory=list[Run])
    arrivals: list[Arrival] = field(default_factory=list[Arrival])
    training: Run | None = None
    scoring: Run | None = None

    @contextmanager
    def doing(self, title: str) -> Iterator[None]:
        """Name the step that is being done, and time it."""
        self.step = title
        began = time.monotonic()
        self.console.print()
        self.console.rule(f"[bold]{title}", align="left")
        yield
        self.timings[title] = time.monotonic() - began

    def say(self, text: str) -> None:
        """Tell one finding."""
        self.console.print(f"  {text}", highlight=False, soft_wrap=True)

    def champion(self, model_name: str, alias: str) -> str | None:
        """Return the version that the registry's alias names now."""
        from databricks.sdk.errors import NotFound

        try:
            answer = self.workspace.api_client.do(
                "GET",
                "/api/2.0/mlflow/unity-catalog/registered-models/alias",
                query={"name": model_name, "alias": alias},
            )
        except NotFound:
            return None
        version = answer.get("model_version", {}) if isinstance(answer, dict) else {}
        return str(version["version"]) if "version" in version else None

    def good(self, text: str) -> None:
        """Tell that something which was promised is so."""
        self.console.print(f"  [green]✓[/green] {text}", highlight=False, soft_wrap=True)


def until[T](question: Callable[[], T | None], *, what: str, timeout_s: float, logs: tuple[str, ...]) -> T:
    """Return the first answer that is there.

    Raises:
        DemoFailedError: There was none in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = question()
        if answer is not None:
            return answer
        if time.monotonic() > deadline:
            raise DemoFailedError(f"{what}: not within {timeout_s:.0f} s", logs=logs)
        time.sleep(_POLL_S)
