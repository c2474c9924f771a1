"""Measures a storm of arrivals, each delivered three times, against the naive Function and against bare inserts."""

import base64
import json
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.bare_inserts import bare_insert_rate
from bench.figures import Figure
from bench.limited_workspace import counts
from bench.storm_cloud import Host, StormCloud, storm_cloud, until
from functions.adapters.storage import StorageAccount
from functions.adapters.tables import AzureTables
from local.supervisor.settings import ACCOUNT

__all__ = ["measure", "measure_429", "measure_many_pipelines"]

_DELIVERIES: Final = 3
_WAVE: Final = 600  # messages in the queue at a time: with more of them Azurite's own queue is what is measured
_NAIVE_MESSAGES: Final = 400
_BARE_ROWS: Final = 4000
_CAP: Final = 4
_FILES_A_RUN: Final = 500
_WINDOW_S: Final = 5
_WINDOW_OF_MANY_S: Final = 30  # a hundred shorter ones would start more runs a second than a workspace takes
_WARM_UP_FROM: Final = 900_000  # beyond the numbers of the storm's own files
_NAME: Final = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Storm:
    """What came of a storm."""

    deliveries: int
    drain_s: float
    states: Counter[str]
    redeliveries: int
    runs: int
    most_active: int
    memory_growth: float
    settle_s: float
    refusals: int

    @property
    def rate(self) -> float:
        return self.deliveries / self.drain_s

    @property
    def accounted(self) -> float:
        """Arrivals in the ledger that have their run, of those that were sent."""
        with_run = self.states["assigned"] + self.states["scored"]
        return with_run / (self.deliveries / _DELIVERIES)


def measure(console: Console, arrivals: int) -> Sequence[Figure]:
    """Return the ratios of a storm into one pipeline with a window."""
    name = "storm"
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, storm_cloud(Path(folder)) as cloud:
        bare = bare_insert_rate(cloud.connection_string, workers=1, rows=_BARE_ROWS)
        idle = _idle(cloud, console, workers=1)
        naive_rate, naive_runs = _naive(cloud, console, workers=1)
        storm = _ours(cloud, console, arrivals=arrivals, pipelines=1, workers=1)
    return [
        *_ratios(name, storm, naive_rate, naive_runs, bare),
        _to_idle(name, storm, idle),
        _accounted(name, storm, detail=f"{storm.rate:.0f} deliveries/s"),
        Figure(
            measurement=name,
            name="deliveries counted",
            value=(arrivals + storm.redeliveries) / storm.deliveries,
            unit="of all",
            goal=1.0,
            goal_is="at least",
        ),
        Figure(measurement=name, name="runs in flight, most", value=storm.most_active, unit="runs", goal=_CAP),
        Figure(
            measurement=name,
            name="worker's memory, end to a third of the way",
            value=storm.memory_growth,
            unit="x",
            goal=1.2,
        ),
        Figure(measurement=name, name="last delivery to last submission", value=storm.settle_s, unit="s"),
    ]


def measure_many_pipelines(console: Console, arrivals: int) -> Sequence[Figure]:
    """Return the ratios of a storm into a hundred pipelines, taken by eight workers."""
    name = "storm_many_pipelines"
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, storm_cloud(Path(folder)) as cloud:
        bare = bare_insert_rate(cloud.connection_string, workers=8, rows=_BARE_ROWS)
        idle = _idle(cloud, console, workers=8)
        naive_rate, naive_runs = _naive(cloud, console, workers=8)
        storm = _ours(cloud, console, arrivals=arrivals, pipelines=100, workers=8, window_s=_WINDOW_OF_MANY_S)
    return [
        *_ratios(name, storm, naive_rate, naive_runs, bare)[0::2],
        _to_idle(name, storm, idle),
        Figure(
            measurement=name, name="runs, ours to naive", value=storm.runs / (naive_runs * storm.deliveries), unit="x"
        ),
        _accounted(name, storm),
        Figure(measurement=name, name="last delivery to last submission", value=storm.settle_s, unit="s"),
    ]


def measure_429(console: Console, arrivals: int) -> Sequence[Figure]:
    """Return how a storm fares while the workspace refuses nine calls in ten, beside the same without refusals."""
    name = "storm_429"
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, storm_cloud(Path(folder)) as cloud:
        calm = _ours(cloud, console, arrivals=arrivals, pipelines=10, workers=1, name="calm")
        refused = _ours(cloud, console, arrivals=arrivals, pipelines=10, workers=1, name="refused", refused=0.9)
    detail = f"{refused.refusals} calls refused, {refused.runs} runs"
    return [
        Figure(
            measurement=name,
            name="deliveries/s, nine of ten calls refused to none",
            value=refused.rate / calm.rate,
            unit="x",
            goal=0.7,
            goal_is="at least",
            detail=detail,
        ),
        _accounted(name, refused),
        Figure(
            measurement=name,
            name="last delivery to last submission",
            value=refused.settle_s,
            unit="s",
            detail=f"{calm.settle_s:.0f} s without refusals",
        ),
    ]


def _ratios(name: str, storm: _Storm, naive_rate: float, naive_runs: float, bare: float) -> list[Figure]:
    naive_all = naive_runs * storm.deliveries
    return [
        Figure(
            measurement=name,
            name="events/s, ours to naive",
            value=storm.rate / naive_rate,
            unit="x",
            goal=10.0,
            goal_is="at least",
            detail=f"{storm.rate:.0f}/s to {naive_rate:.0f}/s",
        ),
        Figure(
            measurement=name,
            name="runs, ours to naive",
            value=storm.runs / naive_all,
            unit="x",
            goal=0.01,
            detail=f"{storm.runs} to {naive_all:.0f}",
        ),
        Figure(
            measurement=name,
            name="events/s to bare inserts/s",
            value=storm.rate / bare,
            unit="x",
            goal=0.5,
            goal_is="at least",
            detail=f"{storm.rate:.0f}/s to {bare:.0f}/s",
        ),
    ]


def _accounted(name: str, storm: _Storm, *, detail: str = "") -> Figure:
    """Return how many of the arrivals have their run."""
    return Figure(
        measurement=name,
        name="arrivals that have their run",
        value=storm.accounted,
        unit="of all",
        goal=1.0,
        goal_is="at least",
        detail=detail,
    )


def _to_idle(name: str, storm: _Storm, idle: float) -> Figure:
    """Return how much is left of what storage, host and worker let pass on this machine."""
    return Figure(
        measurement=name,
        name="events/s, ours to a Function that does nothing",
        value=storm.rate / idle,
        unit="x",
        detail=f"{storm.rate:.0f}/s to {idle:.0f}/s",
    )


def _naive(cloud: StormCloud, console: Console, *, workers: int) -> tuple[float, float]:
    """Return the naive Function's deliveries a second, and its runs for each delivery."""
    workspace = cloud.start_workspace()
    rate, sent = _other(cloud, console, "naive", workspace, workers=workers, messages=_NAIVE_MESSAGES)
    return rate, counts(workspace)["runs"] / sent


def _idle(cloud: StormCloud, console: Console, *, workers: int) -> float:
    """Return the deliveries a second of a Function that does nothing with them."""
    rate, _ = _other(cloud, console, "idle", cloud.start_workspace(), workers=workers, messages=3 * _WAVE)
    return rate


def _other(
    cloud: StormCloud, console: Console, name: str, workspace: str, *, workers: int, messages: int
) -> tuple[float, int]:
    """Return the deliveries a second of one of the bench's own apps, and how many it had in all."""
    hosts = cloud.start_other_hosts(name, workers, workspace)
    warm_up = _messages(8 * workers, 1)[: 8 * workers]  # connections, imports
    cloud.send(name, warm_up)
    until(lambda: cloud.drained(name), f"the warm-up of the {name} app", deadline_s=120)
    storm = _messages(messages // _DELIVERIES, 1)
    console.print(f"{name}: {len(storm)} deliveries, {workers} workers")
    waves = [storm[start : start + _WAVE] for start in range(0, len(storm), _WAVE)]
    drain_s = sum(_drain(cloud, hosts, name, wave) for wave in waves)
    for host in hosts:
        host.signal(signal.SIGTERM)
    return len(storm) / drain_s, len(warm_up) + len(storm)


def _ours(
    cloud: StormCloud,
    console: Console,
    *,
    arrivals: int,
    pipelines: int,
    workers: int,
    name: str = _NAME,
    refused: float = 0.0,
    window_s: int = _WINDOW_S,
) -> _Storm:
    workspace = cloud.start_workspace(refused=refused)
    hosts = cloud.start_hosts(workers, workspace, _pipelines_file(cloud.folder, pipelines, window_s), name=name)
    queue = f"{name}-arrivals"
    messages = _messages(arrivals, pipelines)
    console.print(f"ours: {len(messages)} deliveries, {pipelines} pipelines, {workers} workers")
    tables = AzureTables(StorageAccount(connection_string=cloud.connection_string), prefix=name)
    warm_up = _warm_up(cloud, tables, queue, hosts, pipelines)
    runs_before = _runs_when_all_are_there(tables, workspace)
    drain_s, memory = 0.0, []
    for start in range(0, len(messages), _WAVE):
        drain_s += _drain(cloud, hosts, queue, messages[start : start + _WAVE])
        memory.append(sum(host.worker_memory_mib() for host in hosts))
    ended = time.monotonic()
    _until_all_have_runs(tables)
    runs = _runs_when_all_are_there(tables, workspace)
    settle_s = time.monotonic() - ended
    counted = counts(workspace)
    for host in hosts:
        host.signal(signal.SIGTERM)
    return _Storm(
        deliveries=len(messages),
        drain_s=drain_s,
        states=_states(tables) - warm_up,
        redeliveries=sum(1 for _ in _rows(tables, "redeliveries")),
        runs=runs - runs_before,
        most_active=counted["most_active"],
        memory_growth=memory[-1] / memory[len(memory) // 3],  # by then it remembers as many arrivals as it ever does
        settle_s=settle_s,
        refusals=counted["refusals"],
    )


def _warm_up(cloud: StormCloud, tables: AzureTables, queue: str, hosts: Sequence[Host], pipelines: int) -> Counter[str]:
    """Have each worker import, sign in and connect, as a run does; return the states of what they did it with."""
    for host in hosts:  # a run may be started by one of them
        host.get("api/health")
    now = datetime.now(UTC).isoformat()
    cloud.send(
        queue, [_message(_WARM_UP_FROM + index, f"p{index % pipelines:02}", now) for index in range(8 * len(hosts))]
    )
    until(lambda: cloud.drained(queue), "the warm-up's deliveries", deadline_s=120)
    _until_all_have_runs(tables)
    return _states(tables)


def _runs_when_all_are_there(tables: AzureTables, workspace: str) -> int:
    """Return how many runs the workspace has once it has all that the ledger has."""
    runs = len(_rows(tables, "runs"))
    until(lambda: counts(workspace)["runs"] >= runs, "every run at the workspace", deadline_s=1200, poll_s=1)
    return counts(workspace)["runs"]


def _until_all_have_runs(tables: AzureTables) -> None:
    pending = tables.table("pending")
    until(lambda: not pending.page(None, limit=1)[0], "every arrival in a run", deadline_s=600, poll_s=1)


def _drain(cloud: StormCloud, hosts: Sequence[Host], queue: str, messages: Sequence[str]) -> float:
    """Fill the queue while the hosts stand still; return the seconds that they then take to empty it."""
    for host in hosts:
        host.signal(signal.SIGSTOP)
    cloud.send(queue, messages)
    began = time.monotonic()
    for host in hosts:
        host.signal(signal.SIGCONT)
    until(lambda: cloud.drained(queue), f"the queue {queue}", deadline_s=600, poll_s=0.05)
    return time.monotonic() - began


def _states(tables: AzureTables) -> Counter[str]:
    return Counter(str(row["state"]) for row in _rows(tables, "arrivals"))


def _rows(tables: AzureTables, name: str) -> "list[dict[str, object]]":
    found: list[dict[str, object]] = []
    continuation: str | None = None
    while True:
        rows, continuation = tables.table(name).page(continuation, limit=1000)
        found += [dict(row.values) for row in rows]
        if continuation is None:
            return found


def _messages(arrivals: int, pipelines: int) -> list[str]:
    """Return three deliveries of each arrival in the order in which a storm may bring them."""
    now = datetime.now(UTC).isoformat()
    once = [_message(index, f"p{index % pipelines:02}", now) for index in range(arrivals)]
    rng = random.Random(11)
    late = [
        (index + rng.expovariate(1 / 500) * again, message)
        for again in range(_DELIVERIES)
        for index, message in enumerate(once)
    ]
    return [message for _, message in sorted(late)]


def _message(index: int, folder: str, now: str) -> str:
    path = f"{folder}/2026/file-{index:06}.parquet"
    event = {
        "topic": f"/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
        "subject": f"/blobServices/default/containers/input/blobs/{path}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "id": f"event-{index:06}",
        "data": {
            "api": "PutBlob",
            "eTag": f"0x8DE{index:012X}",
            "contentType": "application/octet-stream",
            "contentLength": 1000,
            "blobType": "BlockBlob",
            "url": f"https://{ACCOUNT}.blob.core.windows.net/input/{path}",
            "sequencer": f"{index:048x}",
        },
        "dataVersion": "",
        "metadataVersion": "1",
        "eventTime": now,
    }
    return base64.b64encode(json.dumps(event).encode()).decode()


def _pipelines_file(folder: Path, count: int, window_s: int) -> Path:
    text = "schema = 1\n"
    for index in range(count):
        text += f"""
[pipelines.p{index:02}]
kind = "scoring"
job = "scoring"
model = "main.tidegate.flight_delay"
alias = "champion"
stages = {{ publish = false }}
batching = {{ quiet_seconds = {window_s}, max_wait_seconds = {2 * window_s}, max_files = {_FILES_A_RUN} }}
concurrency = {{ policy = "parallel", max_active = {_CAP} }}
output = {{ container = "scores" }}

[[pipelines.p{index:02}.routes]]
name = "files"
container = "input"
prefix = "p{index:02}/"
glob = "**/*.parquet"
"""
    path = folder / f"pipelines-{count}.toml"
    path.write_text(text)
    return path
