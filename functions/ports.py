"""Says what the control plane needs from the outside, in verbs of its own domain."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from functions.core.alerts import Alert
from functions.core.announcements import Announcement
from functions.core.backfills import Backfill
from functions.core.consignments import Consignment
from functions.core.databricks_states import RunStatus
from functions.core.dead_letters import Replayed
from functions.core.dismissals import Dismissed
from functions.core.ledger import Arrival, Run
from functions.core.manifest import InputManifest, ManifestPointer
from functions.core.model import (
    BlobVersion,
    DatabricksJobId,
    DatabricksRunId,
    IdempotencyToken,
    JobKey,
    ModelSignal,
    PipelineKey,
    RunId,
)
from functions.core.replays import Replay
from functions.core.scores import ScoresManifest
from functions.core.signal_records import SignalMark, SignalRecord
from functions.core.turnstile import Turnstile
from functions.core.work import WorkItem

__all__ = [
    "BlobPage",
    "ClaimedRequest",
    "Clock",
    "CompletionPublisher",
    "Entry",
    "HeldArrival",
    "InputStore",
    "KeptLetter",
    "LayoutStatus",
    "ManifestStore",
    "ModelRegistry",
    "NotedSlot",
    "OpenRun",
    "OperationLog",
    "Quarantine",
    "QuarantinedMessage",
    "RunLedger",
    "RunSubmitter",
    "SignalLedger",
    "SpanHandle",
    "StoredBlob",
    "Telemetry",
    "WorkQueue",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry[T]:
    """A ledger row as it was read: its value, and the version that a later write must still find."""

    value: T
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldArrival:
    """A row of the index of held arrivals: the arrival as it was when the row was written, so it may be stale.

    Whoever acts on it writes the entry by compare-and-set, and learns then whether it is still so.
    """

    pipeline: PipelineKey
    entry: Entry[Arrival]
    key: str  # of the index row
    index_version: str  # of the index row, so that a slow worker cannot remove a later one
    is_known_path: bool = True  # whether other versions of the path may have arrived; False: certainly none before
    announced_at: datetime | None = None  # since when its writer is about to hold the arrival; None: that is done


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A row of the index of runs whose story has not ended."""

    run_id: RunId
    opened_at: datetime  # when the attempt was decided of which the row was written, or the story of a run went on
    databricks_run_id: DatabricksRunId | None  # of its latest attempt when the row was written: a hint, it may be stale
    version: str  # of the index row, so that closing a run cannot remove the row of its reopening
    reopens: str = ""  # version of the run's entry with whose end the story goes on, if the row was written for that


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutStatus:
    """How far the ledger's rows are brought to the layout of this release."""

    layout: int
    is_complete: bool  # nothing is left of an earlier layout
    seen: int  # rows looked at so far
    moved: int  # of which so many were of an earlier release
    continuation: str | None  # where to go on


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRequest:
    """A request for a run as it was first made under its Idempotency-Key."""

    request_id: str
    requested_at: datetime
    fingerprint: str  # sha256 of what was asked for; another one under the same key is refused
    run_id: RunId | None = None  # of the run that it asks for; None in a row of an earlier release


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedSlot:
    """The last slot of a schedule that was dealt with, and the timetable that named it."""

    slot: datetime
    timetable: str  # "" in a row of an earlier release


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedMessage:
    """A message that no trigger could understand, kept with its reason."""

    id: str
    queue: str
    at: datetime
    reason: str
    url: str  # of the blob that has the whole message


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLetter:
    """A dead letter as a listing shows it."""

    name: str
    kept_at: datetime  # by the service's clock
    replayed: Replayed | None  # None: it was not yet, or the process died before it could say so
    dismissed: Dismissed | None  # None: nobody said that it needs nobody any more

    @property
    def is_waiting(self) -> bool:
        """Whether a person still has to see to it."""
        return self.replayed is None and self.dismissed is None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlob:
    """What storage has under a name now."""

    version: BlobVersion  # without a sequencer: storage does not tell it
    content_type: str
    modified_at: datetime  # by the service's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobPage:
    """A part of a listing, in the order of the paths."""

    blobs: tuple[StoredBlob, ...]  # empty blobs too, and there may be none of them at all
    continuation: str | None  # names the next page, also in another process and another day; None: this is the last


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        ...


class RunLedger(Protocol):
    """Keeps arrivals and runs; every write is a compare-and-set, so that repeating it is harmless.

    Raises `LedgerConflictError` (transient) when a version is no longer current,
    `LedgerUnavailableError` (transient) when the store does not answer.
    """

    def record_arrival(
        self, arrival: Arrival, *, is_first_try: bool = False
    ) -> tuple[Entry[Arrival], HeldArrival | None, bool]:
        """Return the arrival's entry, its index row if it is held and is to be looked after, and whether it is new.

        A redelivery is counted. A held arrival is in the index when this returns, except where another delivery
        that may have died half-way is certain to come back for it: `is_first_try` says that this message was never
        tried before, so it is not that other one.
        """
        ...

    def get_arrival(self, blob: BlobVersion) -> Entry[Arrival] | None:
        """Return what is known of one version of one blob, all its deliveries counted."""
        ...

    def get_arrivals(self, blobs: Sequence[BlobVersion]) -> list[Entry[Arrival] | None]:
        """Return what is known of each version, its redeliveries not counted: for changing many."""
        ...

    def arrivals_of_path(self, account: str, container: str, path: str) -> Sequence[Entry[Arrival]]:
        """Return every version of one path that ever arrived, in no particular order."""
        ...

    def update_arrival(self, entry: Entry[Arrival], arrival: Arrival) -> Entry[Arrival]:
        """Return the new entry; one that becomes held is put into the index first, none is taken out of it."""
        ...

    def update_arrivals(self, changes: Sequence[tuple[Entry[Arrival], Arrival]]) -> list[Entry[Arrival] | None]:
        """Return the new entry of each change, None where the entry has moved on; never makes an arrival held."""
        ...

    def held_arrivals(
        self, pipeline: PipelineKey, *, limit: int, consignment: str | None = None
    ) -> Sequence[HeldArrival]:
        """Return rows of the pipeline's index, by event time; never reads the history.

        With a consignment, only its rows; with an empty one, only those of arrivals without. With neither, those
        without come first, and then one consignment's after the other's.
        """
        ...

    def next_consignment(self, pipeline: PipelineKey, *, after: str) -> tuple[str, str] | None:
        """Return a place in the index and the consignment that holds arrivals there; one request.

        `after` is such a place, or empty for the first: so a walk sees every consignment, however much each holds.
        """
        ...

    def consignment(self, pipeline: PipelineKey, place: str) -> Entry[Consignment] | None:
        """Return what is known of a consignment's present version, or None before its first."""
        ...

    def move_consignment(self, entry: Entry[Consignment] | None, consignment: Consignment) -> Entry[Consignment]:
        """Return the new entry of a consignment that takes the step from `entry`, or from nothing."""
        ...

    def bookmark(self, name: str) -> Mapping[str, str]:
        """Return what was remembered under a name; nothing before the first time."""
        ...

    def set_bookmark(self, name: str, values: dict[str, str]) -> None:
        """Remember something under a name; the last writer wins, so it may be a hint only."""
        ...

    def note_wake_up(self, pipeline: PipelineKey, due: datetime, *, not_before: datetime) -> datetime | None:
        """Note that a message wakes the dispatcher at `due`, unless one is noted that does between the two times.

        Returns:
            When that one does, or None if this one is noted, or would be but for a rival who noted a later one.
        """
        ...

    def forget_wake_up(self, pipeline: PipelineKey) -> None:
        """Forget the message that was noted: it was not sent."""
        ...

    def note_held(self, held: HeldArrival, arrival: Arrival) -> None:
        """Write a new reason for waiting to the arrival and its index row; changes nothing if it has moved on."""
        ...

    def forget_held(self, held: Sequence[HeldArrival]) -> None:
        """Remove index rows that are still at their versions, of arrivals that are not held any more."""
        ...

    def insert_run(self, run: Run) -> tuple[Entry[Run], bool]:
        """Return the run's entry and whether this call made it; the first writer wins. Opens it in the index first."""
        ...

    def get_run(self, run_id: RunId) -> Entry[Run] | None:
        """Return a run, or None."""
        ...

    def update_run(self, entry: Entry[Run], run: Run) -> Entry[Run]:
        """Return the new entry; closes the run in the index after its story is over, reopens it before it goes on."""
        ...

    def open_runs(self, pipeline: PipelineKey | None = None) -> Iterator[OpenRun]:
        """Yield runs, of one pipeline or all, that have not ended or are not announced yet; reads an index."""
        ...

    def forget_open(self, run: OpenRun) -> None:
        """Remove an index row whose run is over, or was never made."""
        ...

    def runs(
        self,
        pipelines: Sequence[PipelineKey],
        *,
        since: datetime,
        until: datetime,
        limit: int,
        where: Callable[[Run], bool] | None = None,
    ) -> Sequence[Run]:
        """Return runs of these pipelines whose cause lies in [since, until), newest first; reads no more than that."""
        ...

    def arrivals(
        self,
        pipelines: Sequence[PipelineKey | None],
        *,
        since: datetime,
        until: datetime,
        limit: int,
        where: Callable[[Arrival], bool] | None = None,
    ) -> Sequence[Arrival]:
        """Return arrivals of these pipelines (None: of none) recorded in [since, until), newest first.

        Reads an index by time, no more of it than it takes; redeliveries are not counted.
        """
        ...

    def arrivals_of_run(self, run: Run) -> Sequence[BlobVersion]:
        """Return the versions assigned to a run, from the index by time: for a run whose manifest is lost."""
        ...

    def layout_status(self) -> LayoutStatus:
        """Return whether every row is in the layout of this release."""
        ...

    def bring_up_to_date(self, *, limit: int) -> LayoutStatus:
        """Look at so many more rows, and rewrite those that an earlier release wrote; safe at any time, by anyone."""
        ...

    def forget_before(self, pipeline: PipelineKey | None, *, before: datetime, limit: int) -> int:
        """Look at so many arrivals and runs of a pipeline (None: of none) that are older; remove what is settled.

        Returns how many were removed. Never what is open or held, or was changed since; the next call goes on.
        """
        ...

    def claim_request(self, request: ClaimedRequest) -> ClaimedRequest:
        """Return the request that was first made under this id."""
        ...

    def last_slot(self, pipeline: PipelineKey, schedule: str) -> NotedSlot | None:
        """Return the last slot of a schedule that was dealt with, or None before the first."""
        ...

    def note_slot(self, pipeline: PipelineKey, schedule: str, noted: NotedSlot, note: str) -> None:
        """Remember that this slot and those before it were dealt with, and how; an earlier slot changes nothing."""
        ...

    def read_turnstile(self) -> Entry[Turnstile]:
        """Return the turnstile as it stands; before the first write it is empty, at version ""."""
        ...

    def update_turnstile(self, entry: Entry[Turnstile], turnstile: Turnstile) -> Entry[Turnstile]:
        """Return the new entry; raises LedgerConflictError if someone changed it since it was read."""
        ...

    def take_back_slot(self, pipeline: PipelineKey, schedule: str, noted: datetime, slot: datetime, note: str) -> None:
        """Remember `slot` instead of the later one that a wrong clock noted; changes nothing if that is not there."""
        ...

    def record_quarantined(self, message: QuarantinedMessage) -> None:
        """Keep where a message went that could not be understood; the same message again changes nothing."""
        ...

    def quarantined(self, *, limit: int) -> Sequence[QuarantinedMessage]:
        """Return quarantined messages, newest first."""
        ...

    def record_alert(self, alert: Alert) -> None:
        """Keep what a person must look at."""
        ...

    def alerts(self, *, since: datetime, limit: int) -> Sequence[Alert]:
        """Return alerts raised since then, newest first, each id once; reads no history beyond it."""
        ...


class SignalLedger(Protocol):
    """Keeps what became of signals, and which window last started a run by each rule."""

    def find(self, signal: ModelSignal) -> SignalRecord | None:
        """Return what became of a signal, or None if it was not dealt with yet."""
        ...

    def record(self, record: SignalRecord) -> SignalRecord:
        """Return what became of the signal; the first record stays."""
        ...

    def recent(self, *, limit: int) -> Sequence[SignalRecord]:
        """Return what became of signals, newest first."""
        ...

    def mark_of(self, pipeline: PipelineKey, rule: str) -> Entry[SignalMark] | None:
        """Return the window that last started a run by this rule, or None before the first."""
        ...

    def claim(self, pipeline: PipelineKey, rule: str, mark: SignalMark, seen: Entry[SignalMark] | None) -> bool:
        """Write the mark if it is still as it was seen; return whether it was."""
        ...


class RunSubmitter(Protocol):
    """Starts and watches Databricks runs."""

    @property
    def is_warm(self) -> bool:
        """Whether submitting costs no import and no sign-in first."""
        ...

    def find_job(self, job: JobKey) -> DatabricksJobId:
        """Return the one job of this name and environment; raises UnknownJobError or AmbiguousJobError."""
        ...

    def check_job(self, job: JobKey) -> None:
        """Look the job up again, whatever is remembered of it.

        Raises:
            UnknownJobError: It is not there any more.
            AmbiguousJobError: Another job has got its name.
            DriftedJobError: It does something else than its template says.
        """
        ...

    def submit(self, job: JobKey, token: IdempotencyToken, parameters: Mapping[str, str]) -> DatabricksRunId:
        """Return the run of this token, starting it if there is none; equal token, same run."""
        ...

    def page_of(self, job: JobKey, run: DatabricksRunId) -> str:
        """Return where people see the run; asks nobody."""
        ...

    def active(self, job: JobKey) -> frozenset[DatabricksRunId]:
        """Return the job's runs that have not ended, in a few calls for however many."""
        ...

    def status(self, run: DatabricksRunId) -> RunStatus:
        """Return what Databricks says about a run; raises NotFoundError if it knows none of this id."""
        ...

    def cancel(self, run: DatabricksRunId) -> None:
        """Ask for a run to be cancelled, if it is there and goes on; its status says when it is."""
        ...

    def latest_repair(self, run: DatabricksRunId) -> int:
        """Return the id of the run's latest repair, 0 if it has none; raises NotFoundError if the run is unknown."""
        ...

    def repair(self, run: DatabricksRunId, parameters: Mapping[str, str], *, after: int) -> None:
        """Have the failed tasks of an ended run done again with these parameters, as the repair that follows `after`.

        Equal arguments, one repair: if the run has a later repair already, nothing happens.
        """
        ...


class ModelRegistry(Protocol):
    """Knows which model version an alias names."""

    def resolve(self, model_name: str, alias: str) -> str | None:
        """Return the version that the alias names now, or None if the model or the alias does not exist yet."""
        ...


class InputStore(Protocol):
    """Reads facts about input blobs; of their content only the lists of files."""

    def find(self, account: str, container: str, path: str) -> StoredBlob | None:
        """Return what is under this name now, or None."""
        ...

    def read_small(self, account: str, container: str, path: str, *, most_bytes: int) -> bytes | None:
        """Return the content under this name, or None; of a longer one its beginning, one byte more than the most."""
        ...

    def list_page(self, container: str, prefix: str, *, continuation: str | None, limit: int) -> BlobPage:
        """Return at most `limit` blobs under a prefix of the app's own account: a page, never the whole listing.

        Raises NotFoundError if there is no such container, ContinuationLostError if the continuation names no page
        any more; then only the beginning is left.
        """
        ...


class ManifestStore(Protocol):
    """Keeps input manifests and reads the manifests of published scores."""

    def write(self, manifest: InputManifest) -> tuple[ManifestPointer, InputManifest]:
        """Return where the run's manifest is and what it says; the first one that was written stays."""
        ...

    def read(self, pointer: ManifestPointer) -> InputManifest:
        """Return the manifest that the pointer names; raises InvalidDocumentError if its bytes are not those."""
        ...

    def read_scores(self, output_url: str) -> ScoresManifest | None:
        """Return the manifest beside published scores, or None if nothing is published there."""
        ...


class Quarantine(Protocol):
    """Keeps messages that could not be understood."""

    def keep(self, name: str, document: Mapping[str, object]) -> str:
        """Return the blob's URL; keeping the same message again changes nothing."""
        ...

    def read(self, name: str) -> Entry[bytes]:
        """Return a blob that was kept here, by us or by Event Grid; raises NotFoundError."""
        ...

    def list(self, prefix: str, *, at_a_time: int) -> Iterator[KeptLetter]:
        """Yield what has a name with this prefix, by name; reads so many at a time, and no more than are asked for."""
        ...

    def mark_replayed(self, name: str, replayed: Replayed, *, version: str | None) -> None:
        """Have a letter say that it was replayed; the latest replay stays, and a letter that is gone is left alone.

        Args:
            name: The letter's.
            replayed: What came of it.
            version: Of the letter whose messages were taken; None if nobody remembers, and then one that was changed
                after its replay is left alone: it may be another one.

        Raises:
            StorageUnavailableError: The letter is not of this version any more.
        """
        ...

    def dismiss(self, name: str, dismissed: Dismissed, *, version: str) -> KeptLetter:
        """Have a letter that waits say that it needs nobody any more, and return it as it was before.

        One that was dismissed or replayed before is left as it is; nothing of what it holds changes.

        Raises:
            NotFoundError: The letter is gone.
            IllegalTransitionError: What others keep in the letter's metadata leaves no room.
            StorageUnavailableError: The letter is not of this version any more.
        """
        ...


class OperationLog(Protocol):
    """Keeps what operators asked for: replays under their ids, backfills with their progress.

    Raises `LedgerConflictError` (transient) when a version is no longer current,
    `LedgerUnavailableError` (transient) when the store does not answer.
    """

    def claim_replay(self, replay: Replay) -> Replay:
        """Return the replay that was first asked for under this id."""
        ...

    def finish_replay(self, replay: Replay) -> None:
        """Write down what came of a replay; the first account of it stays."""
        ...

    def claim_backfill(self, backfill: Backfill) -> tuple[Entry[Backfill], bool]:
        """Return the backfill of this id, and whether this call made it."""
        ...

    def get_backfill(self, backfill_id: str) -> Entry[Backfill] | None:
        """Return a backfill, or None."""
        ...

    def update_backfill(self, entry: Entry[Backfill], backfill: Backfill) -> Entry[Backfill]:
        """Return the new entry."""
        ...

    def active_backfills(self) -> Sequence[Entry[Backfill]]:
        """Return backfills that have a next page; reads an index."""
        ...

    def backfills(self, *, limit: int) -> Sequence[Backfill]:
        """Return backfills, the latest first."""
        ...


class WorkQueue(Protocol):
    """Hands work to the dispatcher, now or after a delay."""

    def enqueue(self, item: WorkItem, *, delay: timedelta = timedelta(0)) -> None:
        """Make the work visible to the dispatcher after the delay."""
        ...


class CompletionPublisher(Protocol):
    """Publishes what became of attempts and of pipelines; publishing twice is harmless, because the id is the same."""

    def publish(self, events: Iterable[Announcement]) -> None:
        """Publish all of them or none."""
        ...


class SpanHandle(Protocol):
    """The span being recorded."""

    @property
    def traceparent(self) -> str:
        """The W3C header that makes what follows a child of this span."""
        ...

    def set(self, **fields: str | float | None) -> None:
        """Add fields to the span and to its canonical log line."""
        ...


class Telemetry(Protocol):
    """Records one span and one canonical log line per delivery."""

    def span(
        self, name: str, *, traceparent: str | None = None, **fields: str | float | None
    ) -> AbstractContextManager[SpanHandle]:
        """Record what happens within: a child of `traceparent`, or the root of a new trace."""
        ...

    def alert(self, name: str, *, traceparent: str | None = None, **fields: str | float | None) -> None:
        """Record what a person must look at: a failed span and a line at error level, both called `alert`."""
        ...
