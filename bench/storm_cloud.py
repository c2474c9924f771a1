"""Runs what a storm passes: Azurite, Functions hosts of ours or of the naive app, and a workspace with limits."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from azure.core.exceptions import ResourceExistsError
from azure.storage.queue import QueueClient, QueueServiceClient

from bench.bench_cloud import bench_environ, naive_settings, other_app
from local.supervisor.folders import REPOSITORY, Folders
from local.supervisor.ports import choose_ports
from local.supervisor.services import cloud_services
from local.supervisor.settings import ACCOUNT, CloudSettings, make_settings

__all__ = ["Host", "StormCloud", "storm_cloud", "until"]

_START_S: Final = 90.0
_SENDERS: Final = 8
_ENVIRONMENT: Final = "bench"


@dataclass(frozen=True, slots=True)
class Host:
    """A Functions host and its worker, as two processes."""

    process: "subprocess.Popen[bytes]"
    url: str

    def get(self, path: str) -> None:
        """Ask the host for a page that takes no key; what it answers is its own affair."""
        _answers(f"{self.url}/{path}", any_status=True)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to both."""
        for pid in (self.process.pid, *self._children()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def worker_memory_mib(self) -> float:
        """Return the worker's resident memory."""
        pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self._children()]
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _children(self) -> list[int]:
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]


@dataclass(frozen=True, slots=True, kw_only=True)
class StormCloud:
    """Running storage, and what starts the rest."""

    settings: CloudSettings
    folder: Path
    stack: ExitStack
    queues: dict[str, QueueClient] = field(default_factory=dict[str, QueueClient])  # a poll must not make its own

    @property
    def connection_string(self) -> str:
        """Of the storage account, without the proxy that makes events: the storm's are written by hand."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={self.settings.account_key};"
            f"BlobEndpoint={self.settings.url('blob')}/{ACCOUNT};QueueEndpoint={self.settings.queue_endpoint};"
            f"TableEndpoint={self.settings.table_endpoint};"
        )

    def start_workspace(self, *, refused: float = 0.0, run_s: float = 3.0, latency_ms: float = 150.0) -> str:
        """Start a workspace; return its URL."""
        port = choose_ports({}, {})["workspace"]
        command = [sys.executable, "-m", "bench.limited_workspace", "--port", str(port), "--refused", str(refused)]
        self._start([*command, "--run-s", str(run_s), "--latency-ms", str(latency_ms)], f"workspace-{port}")
        url = f"http://127.0.0.1:{port}"
        until(lambda: _answers(f"{url}/counts"), "the workspace")
        return url

    def start_hosts(self, count: int, workspace: str, pipelines: Path, *, name: str) -> list[Host]:
        """Start so many hosts of our app; each has a worker of its own."""
        values = {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "PYTHON_THREADPOOL_THREAD_COUNT": "32",  # as many as the host has messages at a time
            "AzureWebJobsStorage": self.connection_string,
            "AzureFunctionsWebHost__hostid": f"bench-{name}",
            "TIDEGATE_STORAGE": self.connection_string,
            "TIDEGATE_ENVIRONMENT": _ENVIRONMENT,
            "TIDEGATE_TABLE_PREFIX": name,
            "TIDEGATE_ARRIVALS_QUEUE": f"{name}-arrivals",
            "TIDEGATE_DISPATCH_QUEUE": f"{name}-dispatch",
            "TIDEGATE_COMPLETIONS_QUEUE": f"{name}-completions",
            "TIDEGATE_PIPELINES_FILE": str(pipelines),
            "TIDEGATE_RECONCILE_SCHEDULE": "*/15 * * * * *",
            "DATABRICKS_HOST": workspace,
            "IDENTITY_ENDPOINT": f"{workspace}/msi/token",
            "IDENTITY_HEADER": "bench",
            "EVENTGRID_TOPIC_ENDPOINT": f"{workspace}/topic/api/events",
            "EVENTGRID_TOPIC_KEY": base64.b64encode(b"bench").decode(),
        }
        for queue in ("arrivals", "dispatch", "completions"):
            self.queue(f"{name}-{queue}")
            self.queue(f"{name}-{queue}-poison")  # each host looks into it once a second, as into the others
        # On Azure a lease has one instance fire the timers, which the local host does not take.
        timers_off = {f"AzureWebJobs.{timer}.Disabled": "true" for timer in ("reconciler", "sweep")}
        return [
            self._host(REPOSITORY, values if index == 0 else values | timers_off, f"{name}-{index}")
            for index in range(count)
        ]

    def start_other_hosts(self, name: str, count: int, workspace: str) -> list[Host]:
        """Start so many hosts of one of the bench's own apps; its queue has its name."""
        self.queue(name)
        values = {**naive_settings(self.settings, 1), "DATABRICKS_HOST": workspace}
        del values["AzureFunctionsJobHost__extensions__queues__maxPollingInterval"]  # all poll as host.json says
        values["PYTHON_THREADPOOL_THREAD_COUNT"] = "32"
        app = other_app(name, self.folder / f"{name}-app")
        return [self._host(app, values, f"{name}-{index}") for index in range(count)]

    def queue(self, name: str) -> QueueClient:
        """Return a queue that is there, always the same object."""
        if name not in self.queues:
            service = QueueServiceClient.from_connection_string(self.connection_string)
            self.queues[name] = service.get_queue_client(name)
            with suppress(ResourceExistsError):
                self.queues[name].create_queue()
        return self.queues[name]

    def send(self, queue: str, messages: Sequence[str]) -> None:
        """Put messages into a queue."""
        client = self.queue(queue)
        with ThreadPoolExecutor(_SENDERS) as pool:
            for _ in pool.map(client.send_message, messages):
                pass

    def drained(self, queue: str) -> bool:
        """Whether nothing is in a queue, visible or in the hands of a host."""
        return self.queue(queue).get_queue_properties().approximate_message_count == 0

    def _host(self, app: Path, values: dict[str, str], name: str) -> Host:
        port = choose_ports({}, {})["functions"]
        file = self.folder / f"{name}.settings.json"
        keys = {"default": self.settings.function_key, "master": self.settings.master_key}
        file.write_text(json.dumps({"IsEncrypted": False, "Values": values, "Host": {"Keys": keys}}))
        command = [sys.executable, "-m", "local.functions_host", "--app-dir", str(app), "--port", str(port)]
        process = self._start([*command, "--settings", str(file)], name)
        host = Host(process, f"http://127.0.0.1:{port}")
        until(lambda: _answers(f"{host.url}/admin/host/ping"), f"the host {name}")
        return host

    def _start(self, command: Sequence[str], name: str) -> "subprocess.Popen[bytes]":
        log = self.stack.enter_context((self.folder / f"{name}.log").open("ab"))
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log, env=bench_environ())
        self.stack.callback(_stop, process)
        return process


@contextmanager
def storm_cloud(folder: Path) -> Iterator[StormCloud]:
    """Start Azurite, yield what starts the rest, and stop all of it."""
    folders = Folders(state_dir=folder)
    folders.make()
    settings = make_settings(choose_ports({}, {}))
    azurite = next(found for found in cloud_services(folders, settings) if found.name == "azurite")
    with ExitStack() as stack:
        environ = {**bench_environ(), **azurite.environ}
        for service in ("blob", "queue", "table"):
            log = stack.enter_context((folder / f"azurite-{service}.log").open("ab"))
            process = subprocess.Popen(_only(service, azurite.command), stdout=log, stderr=log, env=environ, cwd=folder)
            stack.callback(_stop, process)
        until(lambda: all(_answers(probe.url, any_status=True) for probe in azurite.probes), "Azurite")
        yield StormCloud(settings=settings, folder=folder, stack=stack)


def _only(service: str, command: Sequence[str]) -> list[str]:
    """Return the command of one of Azurite's services, which are three as in a real account.

    Tables stay in memory: else Azurite writes all rows to one file every five seconds. Queues do not: in memory,
    Azurite's collector of deleted messages stops all else for most of a minute.
    """
    node, script, *options = command
    names = {f"--{service}Host", f"--{service}Port", "--location"}
    kept = [part for name, value in pairwise(options) if name in names for part in (name, value)]
    flags = [option for option in options if option in {"--silent", "--skipApiVersionCheck", "--disableTelemetry"}]
    if service == "table":
        kept = [*kept[: kept.index("--location")], "--inMemoryPersistence"]
    return [node, str(Path(script).parent / service / "main.js"), *kept, *flags]


def until(holds: Callable[[], bool], what: str, *, deadline_s: float = _START_S, poll_s: float = 0.1) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {deadline_s:g} s")
        time.sleep(poll_s)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(url: str, *, any_status: bool = False) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return any_status
    except (urllib.error.URLError, OSError):
        return False
