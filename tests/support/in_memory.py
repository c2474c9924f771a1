"""In-memory ports that pass the contract suites of the real ones, with a hook before and after every effect.

`Faults` is called around every single effect, also within a port's method that has several: raising before one is
a call that never arrived, raising after one is an answer that was lost, and in both cases a process that died there.
"""

import itertools
import json
import math
import re
import threading
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from functions.adapters.table_ledger import TableLedger
from functions.adapters.table_port import StoredRow, Write, WriteKind
from functions.core.announcements import Announcement
from functions.core.completion import CompletionEvent
from functions.core.databricks_states import RunStatus, status_of
from functions.core.errors import (
    AmbiguousJobError,
    ContinuationLostError,
    DriftedJobError,
    InvalidDocumentError,
    LedgerConflictError,
    NotFoundError,
    Problem,
    RunRejectedError,
    UnknownJobError,
)
from functions.core.held import HeldEvent
from functions.core.manifest import InputManifest, ManifestPointer, manifest_path
from functions.core.model import BlobVersion, DatabricksJobId, DatabricksRunId, IdempotencyToken, JobKey
from functions.core.rows import Row
from functions.core.scores import ScoresManifest
from functions.core.stalled import StalledEvent
from functions.core.work import WorkItem
from functions.ports import BlobPage, StoredBlob

__all__ = [
    "Faults",
    "FixedClock",
    "InMemoryInputs",
    "InMemoryManifests",
    "InMemoryPublisher",
    "InMemoryQuarantine",
    "InMemoryQueue",
    "InMemoryTables",
    "InMemoryTelemetry",
    "InMemoryWorkspace",
    "NoFaults",
    "make_ledger",
]


_REFUSED_IN_KEYS = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_MAX_KEY_CHARACTERS = 512  # of two bytes each
_MAX_TEXT_CHARACTERS = 32 * 1024
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Faults:
    """Decides what goes wrong; this one lets everything pass. Subclass it and raise."""

    def before(self, call: str) -> None:
        """Run before the effect of a call such as `tables.runs.insert`."""

    def after(self, call: str) -> None:
        """Run after it, when the caller has not seen the answer yet."""


class NoFaults(Faults):
    """Lets everything pass."""


class _Calls:
    """Wraps effects in the fault hooks and counts them."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.counts: Counter[str] = Counter()

    @contextmanager
    def effect(self, call: str) -> Iterator[None]:
        self.counts[call] += 1
        self.faults.before(call)
        yield
        self.faults.after(call)


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def advance(self, delta: timedelta) -> None:
        """Move the time, backwards too."""
        self._now += delta


class _SortedKeys:
    """The keys of one partition, kept in order at a cost that bears a million of them."""

    def __init__(self) -> None:
        self._sorted: list[str] = []
        self._added: list[str] = []

    def add(self, key: str) -> None:
        self._added.append(key)

    def remove(self, key: str) -> None:
        del self._all()[bisect_left(self._sorted, key)]

    def between(self, low: str, high: str | None, limit: int) -> list[str]:
        """Return the first keys with low <= key < high."""
        keys = self._all()
        start = bisect_left(keys, low)
        return keys[start : min(start + limit, len(keys) if high is None else bisect_left(keys, high))]

    def _all(self) -> list[str]:
        if len(self._added) > 64:
            self._sorted = sorted(self._sorted + self._added)
        else:
            for key in self._added:
                insort(self._sorted, key)
        self._added = []
        return self._sorted


def _check_place(partition: str, key: str) -> None:
    """Refuse what Table Storage refuses: keys of more than 1 KiB, or with characters that a URL's path cannot hold."""
    for part in (partition, key):
        if _REFUSED_IN_KEYS.search(part) or len(part) > _MAX_KEY_CHARACTERS:
            raise AssertionError(f"the service takes no such key: {part[:80]!r}")


def _check_row(values: Row) -> None:
    """Refuse what Table Storage refuses: texts of more than 64 KiB, and what is no text."""
    for name, value in values.items():
        if isinstance(value, str) and (len(value) > _MAX_TEXT_CHARACTERS or _SURROGATES.search(value)):
            raise AssertionError(f"the service takes no such value in the column {name!r}")


class InMemoryTables:
    """Implements `Tables`; `partitions` says which partitions each call touched."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.calls = _Calls(faults or NoFaults())
        self.partitions: Counter[tuple[str, str]] = Counter()
        self.rows: dict[str, dict[tuple[str, str], tuple[Row, str]]] = {}
        self.on_write: Callable[[str, str, Row | None, Row], object] | None = None  # table, key, old row, new row
        self.keys: dict[tuple[str, str], _SortedKeys] = {}
        self._versions = itertools.count(1)
        self._lock = threading.RLock()

    def table(self, name: str) -> "InMemoryTable":
        self.rows.setdefault(name, {})
        return InMemoryTable(self, name)

    @contextmanager
    def touch(self, table: str, call: str, partition: str) -> Iterator[dict[tuple[str, str], tuple[Row, str]]]:
        """Count one request and give its table."""
        name = f"tables.{table}.{call}"
        self.partitions[(table, partition)] += 1
        self.calls.counts[name] += 1
        self.calls.faults.before(name)
        with self._lock:
            yield self.rows[table]
        self.calls.faults.after(name)

    def restore(self, table: str, partition: str, key: str, values: Row, version: str) -> None:
        """Put a row there as an earlier process left it."""
        self.rows.setdefault(table, {})[partition, key] = (values, version)
        self.keys.setdefault((table, partition), _SortedKeys()).add(key)

    def next_version(self) -> str:
        return f"v{next(self._versions)}"


class InMemoryTable:
    """Implements `Table`."""

    def __init__(self, tables: InMemoryTables, name: str) -> None:
        self._tables = tables
        self._name = name

    def insert(self, partition: str, key: str, values: Row) -> str | None:
        with self._tables.touch(self._name, "insert", partition) as rows:
            return self._do(rows, partition, Write.insert(key, values))

    def insert_or_get(self, partition: str, key: str, values: Row) -> str | StoredRow:
        version = self.insert(partition, key, values)
        if version is not None:
            return version
        row = self.get(partition, key)
        if row is None:
            raise LedgerConflictError(f"inserting {key!r}", "the row was there and is gone")
        return row

    def put(self, partition: str, key: str, values: Row) -> str:
        with self._tables.touch(self._name, "put", partition) as rows:
            return self._set(rows, partition, key, values)

    def replace(self, partition: str, key: str, values: Row, version: str) -> str | None:
        with self._tables.touch(self._name, "replace", partition) as rows:
            return self._do(rows, partition, Write.replace(key, values, version))

    def delete(self, partition: str, key: str, version: str | None = None) -> None:
        with self._tables.touch(self._name, "delete", partition) as rows:
            self._do(rows, partition, Write.delete(key, version))

    def write_many(self, partition: str, writes: Sequence[Write]) -> list[str | None]:
        versions: list[str | None] = []
        for start in range(0, len(writes), 100):
            versions += self._write_chunk(partition, writes[start : start + 100])
        return versions

    def _write_chunk(self, partition: str, writes: Sequence[Write]) -> list[str | None]:
        if len(writes) > 1:
            with self._tables.touch(self._name, "transact", partition) as rows:
                if len({write.key for write in writes}) < len(writes):
                    raise AssertionError("the service refuses a transaction with one row twice")
                if all(self._holds(rows, partition, write) for write in writes):
                    return [self._do(rows, partition, write) for write in writes]
        return [self._write_one(partition, write) for write in writes]

    def _write_one(self, partition: str, write: Write) -> str | None:
        with self._tables.touch(self._name, write.kind.value, partition) as rows:
            return self._do(rows, partition, write)

    def get(self, partition: str, key: str) -> StoredRow | None:
        _check_place(partition, key)
        with self._tables.touch(self._name, "get", partition) as rows:
            found = rows.get((partition, key))
            return None if found is None else StoredRow(partition, key, dict(found[0]), found[1])

    def get_many(self, places: Sequence[tuple[str, str]]) -> list[StoredRow | None]:
        return [self.get(*place) for place in places]

    def query(self, partition: str, *, low: str = "", high: str | None = None, limit: int) -> Iterator[StoredRow]:
        with self._tables.touch(self._name, "query", partition) as rows:
            keys = [key for key in self._keys(partition).between(low, high, limit) if (partition, key) in rows]
            found = [StoredRow(partition, key, dict(rows[partition, key][0]), rows[partition, key][1]) for key in keys]
        yield from found

    def page(self, continuation: str | None, *, limit: int) -> tuple[list[StoredRow], str | None]:
        with self._tables.touch(self._name, "scan", "*") as rows:
            after = ("", "") if continuation is None else tuple(json.loads(continuation))
            places = sorted(place for place in rows if place > after)
            found = [StoredRow(*place, dict(rows[place][0]), rows[place][1]) for place in places[:limit]]
        is_last = len(places) <= limit
        return found, None if is_last else json.dumps([found[-1].partition, found[-1].key])

    def _keys(self, partition: str) -> _SortedKeys:
        return self._tables.keys.setdefault((self._name, partition), _SortedKeys())

    def _holds(self, rows: dict[tuple[str, str], tuple[Row, str]], partition: str, write: Write) -> bool:
        found = rows.get((partition, write.key))
        match write.kind:
            case WriteKind.INSERT:
                return found is None
            case WriteKind.PUT:
                return True
            case WriteKind.REPLACE | WriteKind.DELETE:
                return found is not None and write.version in {None, found[1]}

    def _do(self, rows: dict[tuple[str, str], tuple[Row, str]], partition: str, write: Write) -> str | None:
        """Return the row's new version, or None if the write's condition does not hold."""
        _check_place(partition, write.key)
        if not self._holds(rows, partition, write):
            return None
        if write.kind is WriteKind.DELETE:
            del rows[partition, write.key]
            self._keys(partition).remove(write.key)
            return None
        return self._set(rows, partition, write.key, write.values)

    def _set(self, rows: dict[tuple[str, str], tuple[Row, str]], partition: str, key: str, values: Row) -> str:
        _check_place(partition, key)
        _check_row(values)
        version = self._tables.next_version()
        if self._tables.on_write is not None:
            old = rows.get((partition, key))
            self._tables.on_write(self._name, key, None if old is None else old[0], values)
        if (partition, key) not in rows:
            self._keys(partition).add(key)
        rows[partition, key] = (dict(values), version)
        return version


def make_ledger(tables: InMemoryTables | None = None) -> TableLedger:
    """Return the real ledger on tables in memory."""
    return TableLedger(tables if tables is not None else InMemoryTables())


class InMemoryQueue:
    """Implements `WorkQueue`; messages become visible by the clock."""

    def __init__(self, clock: FixedClock, faults: Faults | None = None) -> None:
        self._clock = clock
        self.calls = _Calls(faults or NoFaults())
        self.messages: list[tuple[datetime, WorkItem]] = []

    def enqueue(self, item: WorkItem, *, delay: timedelta = timedelta(0)) -> None:
        with self.calls.effect("queue.enqueue"):
            whole = timedelta(seconds=math.ceil(delay.total_seconds()))  # as the queue service takes it
            self.messages.append((self._clock.now() + whole, item))

    def take(self) -> WorkItem | None:
        """Return and remove the first visible item, or None."""
        for index, (visible_at, item) in enumerate(self.messages):
            if visible_at <= self._clock.now():
                del self.messages[index]
                return item
        return None

    def next_visible_at(self) -> datetime | None:
        """Return when the next item becomes visible, or None if there is none."""
        return min((visible_at for visible_at, _ in self.messages), default=None)


@dataclass
class DatabricksRun:
    """A run in the workspace in memory."""

    id: DatabricksRunId
    job: JobKey
    token: IdempotencyToken
    parameters: dict[str, str]
    status: RunStatus = field(default_factory=lambda: status_of("RUNNING"))
    repairs: list[int] = field(default_factory=list)


class InMemoryWorkspace:
    """Implements `RunSubmitter` and `ModelRegistry`; honours idempotency tokens."""

    is_warm = True

    def __init__(
        self, jobs: Iterable[str] = ("training", "scoring"), faults: Faults | None = None, *, first_id: int = 1001
    ) -> None:
        self.calls = _Calls(faults or NoFaults())
        self.jobs: Counter[JobKey] = Counter(JobKey(job) for job in jobs)
        self.jobs_without_queue: set[JobKey] = set()
        self.runs: dict[DatabricksRunId, DatabricksRun] = {}
        self.models: dict[tuple[str, str], str] = {}
        self._ids = itertools.count(first_id)
        self._lock = threading.Lock()

    def find_job(self, job: JobKey) -> DatabricksJobId:
        with self.calls.effect("workspace.find_job"):
            count = self.jobs[job]
        if count == 0:
            raise UnknownJobError(job, list(self.jobs))
        if count > 1:
            raise AmbiguousJobError(job, list(range(1, count + 1)))
        return DatabricksJobId(sorted(self.jobs).index(job) + 1)

    def check_job(self, job: JobKey) -> None:
        self.find_job(job)
        if job in self.jobs_without_queue:
            raise DriftedJobError(job, ['queue: (absent) -> {"enabled": true}'])

    def submit(self, job: JobKey, token: IdempotencyToken, parameters: Mapping[str, str]) -> DatabricksRunId:
        self.find_job(job)
        with self.calls.effect("workspace.submit"), self._lock:
            run = next((run for run in self.runs.values() if run.token == token), None)
            if run is None:
                run = DatabricksRun(DatabricksRunId(next(self._ids)), job, token, dict(parameters))
                self.runs[run.id] = run
        return run.id

    def page_of(self, job: JobKey, run: DatabricksRunId) -> str:
        return f"https://adb-1.1.azuredatabricks.net/jobs/{job}/runs/{run}"

    def active(self, job: JobKey) -> frozenset[DatabricksRunId]:
        with self.calls.effect("workspace.active"):
            return frozenset(run.id for run in self.runs.values() if run.job == job and run.status.verdict.is_open)

    def status(self, run: DatabricksRunId) -> RunStatus:
        with self.calls.effect("workspace.status"):
            found = self.runs.get(run)
        if found is None:
            raise NotFoundError(f"asking for run {run}", "Run does not exist")
        return found.status

    def cancel(self, run: DatabricksRunId) -> None:
        with self.calls.effect("workspace.cancel"):
            if run in self.runs and self.runs[run].status.verdict.is_open:
                self.runs[run].status = status_of("TERMINATED", "CANCELED", "USER_CANCELED")

    def latest_repair(self, run: DatabricksRunId) -> int:
        with self.calls.effect("workspace.latest_repair"):
            found = self.runs.get(run)
        if found is None:
            raise NotFoundError(f"asking for the repairs of run {run}", "Run does not exist")
        return max(found.repairs, default=0)

    def repair(self, run: DatabricksRunId, parameters: Mapping[str, str], *, after: int) -> None:
        if self.latest_repair(run) != after:
            return
        with self.calls.effect("workspace.repair"), self._lock:
            found = self.runs[run]
            if max(found.repairs, default=0) == after:
                if found.status.verdict.is_open:
                    raise RunRejectedError(f"repairing run {run}", "the run is active")
                found.repairs.append(next(self._ids))
                found.parameters, found.status = dict(parameters), status_of("RUNNING")

    def resolve(self, model_name: str, alias: str) -> str | None:
        with self.calls.effect("workspace.resolve"):
            return self.models.get((model_name, alias))


class InMemoryInputs:
    """Implements `InputStore`."""

    def __init__(self, account: str = "tidegatelocal", faults: Faults | None = None) -> None:
        self.calls = _Calls(faults or NoFaults())
        self.account = account
        self.blobs: dict[tuple[str, str, str], StoredBlob] = {}
        self.contents: dict[tuple[str, str, str], bytes] = {}
        self.containers = {"input", "scores"}
        self.lost_continuations: set[str] = set()

    def put(
        self,
        blob: BlobVersion,
        *,
        content_type: str = "application/octet-stream",
        at: datetime = datetime(2026, 3, 1, 11, tzinfo=UTC),
        content: bytes = b"",
    ) -> None:
        """Upload a version; it replaces the one of the same name."""
        self.contents[blob.account, blob.container, blob.path] = content
        self.containers.add(blob.container)
        self.blobs[blob.account, blob.container, blob.path] = StoredBlob(
            version=replace(blob, sequencer=None), content_type=content_type, modified_at=at
        )

    def remove(self, blob: BlobVersion) -> None:
        """Delete what is under the blob's name."""
        del self.blobs[blob.account, blob.container, blob.path]
        del self.contents[blob.account, blob.container, blob.path]

    def find(self, account: str, container: str, path: str) -> StoredBlob | None:
        with self.calls.effect("inputs.find"):
            return self.blobs.get((account, container, path))

    def read_small(self, account: str, container: str, path: str, *, most_bytes: int) -> bytes | None:
        with self.calls.effect("inputs.read_small"):
            found = self.contents.get((account, container, path))
        return None if found is None else found[: most_bytes + 1]

    def list_page(self, container: str, prefix: str, *, continuation: str | None, limit: int) -> BlobPage:
        with self.calls.effect("inputs.list_page"):
            if container not in self.containers:
                raise NotFoundError(f"listing {container}/{prefix}", "ContainerNotFound")
            if continuation is not None and (continuation in self.lost_continuations or continuation[0] != ">"):
                raise ContinuationLostError(f"{container}/{prefix}")
            after = "" if continuation is None else continuation[1:]
            found = [
                blob
                for (account, of, path), blob in sorted(self.blobs.items())
                if account == self.account and of == container and path.startswith(prefix) and path > after
            ]
        page = found[:limit]
        return BlobPage(blobs=tuple(page), continuation=f">{page[-1].version.path}" if len(found) > limit else None)


class InMemoryManifests:
    """Implements `ManifestStore`; `blobs` has every document by URL."""

    def __init__(
        self, account: str = "tidegatelocal", container: str = "tidegate", faults: Faults | None = None
    ) -> None:
        self.calls = _Calls(faults or NoFaults())
        self._base = f"https://{account}.blob.core.windows.net/{container}"
        self.blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def write(self, manifest: InputManifest) -> tuple[ManifestPointer, InputManifest]:
        url = f"{self._base}/{manifest_path(manifest.pipeline, manifest.run_id)}"
        with self.calls.effect("manifests.write"), self._lock:
            kept = InputManifest.from_bytes(self.blobs.setdefault(url, manifest.to_bytes()))
        return ManifestPointer(url=url, sha256=kept.sha256()), kept

    def read(self, pointer: ManifestPointer) -> InputManifest:
        with self.calls.effect("manifests.read"):
            found = self.blobs.get(pointer.url)
        if found is None:
            raise NotFoundError("reading an input manifest", f"nothing at {pointer.url!r}")
        manifest = InputManifest.from_bytes(found)
        if manifest.sha256() != pointer.sha256:
            raise InvalidDocumentError([Problem("manifest.sha256", manifest.sha256(), pointer.sha256)])
        return manifest

    def read_scores(self, output_url: str) -> ScoresManifest | None:
        with self.calls.effect("manifests.read_scores"):
            found = self.blobs.get(f"{output_url}/_manifest.json")
        return None if found is None else ScoresManifest.from_bytes(found)


class InMemoryQuarantine:
    """Implements `Quarantine`."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.calls = _Calls(faults or NoFaults())
        self.documents: dict[str, Mapping[str, object]] = {}

    def keep(self, name: str, document: Mapping[str, object]) -> str:
        with self.calls.effect("quarantine.keep"):
            self.documents.setdefault(name, document)
        return f"https://tidegatelocal.blob.core.windows.net/deadletter/{name}"

    def read(self, name: str) -> bytes:
        with self.calls.effect("quarantine.read"):
            found = self.documents.get(name)
        if found is None:
            raise NotFoundError(f"reading {name}", "BlobNotFound")
        return json.dumps(found).encode()

    def list(self, prefix: str, *, limit: int) -> Sequence[tuple[str, datetime]]:
        with self.calls.effect("quarantine.list"):
            names = sorted(name for name in self.documents if name.startswith(prefix))
        return [(name, datetime(2026, 3, 1, tzinfo=UTC)) for name in names[:limit]]


class InMemoryPublisher:
    """Implements `CompletionPublisher`; `on_publish` is the subscriber."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.calls = _Calls(faults or NoFaults())
        self.published: list[CompletionEvent] = []
        self.stalls: list[StalledEvent] = []
        self.held: list[HeldEvent] = []
        self.on_publish: Callable[[Announcement], None] | None = None

    def publish(self, events: Iterable[Announcement]) -> None:
        with self.calls.effect("publisher.publish"):
            for event in events:
                if isinstance(event, StalledEvent):
                    self.stalls.append(event)
                elif isinstance(event, HeldEvent):
                    self.held.append(event)
                else:
                    self.published.append(event)
                if self.on_publish is not None:
                    self.on_publish(event)


@dataclass
class InMemorySpan:
    """A span that was recorded."""

    name: str
    parent: str | None
    traceparent: str
    fields: dict[str, str | float | None]

    def set(self, **fields: str | float | None) -> None:
        self.fields.update(fields)


class InMemoryTelemetry:
    """Implements `Telemetry` with ids that count up."""

    def __init__(self) -> None:
        self.spans: list[InMemorySpan] = []
        self.alerts: list[tuple[str, dict[str, str | float | None]]] = []
        self._ids = itertools.count(1)

    @contextmanager
    def span(
        self, name: str, *, traceparent: str | None = None, **fields: str | float | None
    ) -> Iterator[InMemorySpan]:
        number = next(self._ids)
        parent = _TRACEPARENT.fullmatch(traceparent or "")  # a caller may send anything: then a new trace begins
        trace_id = parent[1] if parent else f"{number:032x}"
        span = InMemorySpan(name, traceparent, f"00-{trace_id}-{number:016x}-01", dict(fields))
        self.spans.append(span)
        yield span

    def alert(self, name: str, *, traceparent: str | None = None, **fields: str | float | None) -> None:
        self.alerts.append((name, dict(fields)))
