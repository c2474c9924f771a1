"""States what the ledger keeps about arrivals and runs, and which changes of it are allowed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from functions.core.completion import CompletionEvent
from functions.core.errors import IllegalTransitionError
from functions.core.manifest import ManifestPointer
from functions.core.model import (
    ArrivalId,
    ArrivalSource,
    ArrivalState,
    BatchId,
    BlobVersion,
    DatabricksRunId,
    IdempotencyToken,
    JobKey,
    Outcome,
    PipelineKey,
    RunId,
    RunKind,
    RunState,
    Stage,
    require_utc,
)
from functions.core.setback import Setback
from functions.core.stalled import StalledEvent

__all__ = [
    "ARRIVALS_KEPT",
    "ARRIVAL_TRANSITIONS",
    "RUN_TRANSITIONS",
    "Arrival",
    "Attempt",
    "Cause",
    "CauseKind",
    "Change",
    "Run",
    "RunRule",
]

ARRIVALS_KEPT: Final = 200  # arrival ids in a run's row; the manifest has them all
CHANGES_KEPT: Final = 60

ARRIVAL_TRANSITIONS: Final[Mapping[ArrivalState, frozenset[ArrivalState]]] = {
    ArrivalState.HELD: frozenset({ArrivalState.ASSIGNED, ArrivalState.SUPERSEDED, ArrivalState.IGNORED}),
    ArrivalState.ASSIGNED: frozenset({ArrivalState.SCORED, ArrivalState.FAILED, ArrivalState.HELD}),
    ArrivalState.IGNORED: frozenset({ArrivalState.HELD}),  # replayed after the cause was mended
    ArrivalState.SUPERSEDED: frozenset(),
    ArrivalState.SCORED: frozenset(),
    ArrivalState.FAILED: frozenset({ArrivalState.ASSIGNED, ArrivalState.HELD, ArrivalState.SCORED}),
    ArrivalState.SEAL: frozenset(),  # replaying one would make it an input
}

RUN_TRANSITIONS: Final[Mapping[RunState, frozenset[RunState]]] = {
    RunState.DECIDED: frozenset({RunState.SUBMITTING, RunState.ENDED}),
    RunState.SUBMITTING: frozenset({RunState.SUBMITTED, RunState.REPORTED, RunState.ENDED, RunState.DECIDED}),
    RunState.SUBMITTED: frozenset({RunState.REPORTED, RunState.ENDED, RunState.DECIDED}),
    RunState.REPORTED: frozenset({RunState.ENDED}),
    RunState.ENDED: frozenset({RunState.DECIDED}),
}


class RunRule(StrEnum):
    """The rules beyond the table of transitions, each named as what it does."""

    FOLLOW_THE_TABLE = "FollowTheTable"  # only the transitions of RUN_TRANSITIONS and ARRIVAL_TRANSITIONS
    KEEP_THE_FIRST_TOKEN = "KeepTheFirstToken"  # an attempt's token is written once  # noqa: S105
    KEEP_THE_FIRST_DATABRICKS_RUN = "KeepTheFirstDatabricksRun"  # one token, one Databricks run
    REJECT_SECOND_COMPLETION = "RejectSecondCompletion"  # an attempt ends once, with one outcome
    REJECT_FOREIGN_COMPLETION = "RejectForeignCompletion"  # a completion event belongs to this run and attempt
    REJECT_RETRY_OF_SUCCESS = "RejectRetryOfSuccess"  # what completed is never done again under the same run
    PUBLISH_BEFORE_RETRY = "PublishBeforeRetry"  # an attempt's events leave before the next begins
    MANIFEST_BEFORE_TOKEN = "ManifestBeforeToken"  # the batch is frozen before anything is wanted of it  # noqa: S105
    PROVE_SCORES = "ProveScores"  # a completed scoring attempt names verified outputs
    CANCEL_BEFORE_TOKEN = "CancelBeforeToken"  # what is to be cancelled is not sent any more  # noqa: S105
    CANCEL_IS_FINAL = "CancelIsFinal"  # after an attempt that is to be cancelled none follows by itself
    REPAIR_WHAT_RAN = "RepairWhatRan"  # only an ended attempt that Databricks ran can be repaired
    RELEASE_BEFORE_RETRY = "ReleaseBeforeRetry"  # files that go on without the run have left before its next attempt
    REPORT_THEN_END = "ReportThenEnd"  # a reported attempt ends before its next begins
    END_BEFORE_PUBLISHING = "EndBeforePublishing"  # only what has ended can be announced


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step of an entry's history."""

    state: str
    at: datetime
    note: str = ""

    def __post_init__(self) -> None:
        require_utc(self.at, "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One version of one blob that arrived, and what became of it."""

    id: ArrivalId
    blob: BlobVersion
    state: ArrivalState
    event_id: str
    event_time: datetime
    api: str
    content_type: str
    recorded_at: datetime
    updated_at: datetime
    pipeline: PipelineKey | None = None  # whose route matched
    route: str = ""  # which of its routes
    reason: str | None = None  # why it is ignored, superseded, failed, or still held
    run_id: RunId | None = None  # the latest run it was assigned to
    deliveries: int = 1
    traceparent: str | None = None
    config_version: str = ""  # of the configuration that decided
    source: ArrivalSource = ArrivalSource.EVENT
    consignment: str = ""  # whose files it waits for, or says to be complete: container/folder/
    contradictions: tuple[str, ...] = ()  # what later deliveries said differently; the first one is believed
    history: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        for name in ("event_time", "recorded_at", "updated_at"):
            require_utc(getattr(self, name), name)
        if self.state in {ArrivalState.HELD, ArrivalState.ASSIGNED} and self.pipeline is None:
            raise ValueError(f"an arrival that is {self.state.value} needs a pipeline")
        if self.state in {ArrivalState.ASSIGNED, ArrivalState.SCORED} and self.run_id is None:
            raise ValueError(f"an arrival that is {self.state.value} needs a run")

    def redelivered(self, at: datetime) -> "Arrival":
        """Return the arrival with one more delivery counted."""
        return replace(self, deliveries=self.deliveries + 1, updated_at=max(at, self.updated_at))

    @property
    def is_replayed(self) -> bool:
        """Whether it was given up before it came to be held again, which only a person does."""
        given_up = {ArrivalState.IGNORED.value, ArrivalState.FAILED.value}
        return self.state is ArrivalState.HELD and any(change.state in given_up for change in self.history)

    @property
    def is_taken_back(self) -> bool:
        """Whether its run took it back for another attempt, as opposed to having claimed it when it was held."""
        before = self.history[-2].state if len(self.history) > 1 else None
        return self.state is ArrivalState.ASSIGNED and before == ArrivalState.FAILED.value

    def assign(self, run_id: RunId, at: datetime) -> "Arrival":
        """Return the arrival frozen into a run's batch; assigning it to the same run again changes nothing."""
        if self.state is ArrivalState.ASSIGNED and self.run_id == run_id:
            return self
        return self._become(ArrivalState.ASSIGNED, at, note=run_id, run_id=run_id, reason=None)

    def release(self, run_id: RunId, at: datetime, reason: str) -> "Arrival":
        """Return the arrival held again because its run will never read it; only its own run can let it go."""
        if self.state is ArrivalState.HELD:
            return replace(self, reason=reason, updated_at=max(at, self.updated_at))
        if self.run_id != run_id:
            raise self._refuse("held")
        return self._become(ArrivalState.HELD, at, note=reason, reason=reason, run_id=None)

    def hold_because(self, reason: str | None, at: datetime) -> "Arrival":
        """Return a held arrival with the reason why it waits; None: for its window only."""
        if self.state is not ArrivalState.HELD:
            raise self._refuse("held")
        return self if self.reason == reason else replace(self, reason=reason, updated_at=max(at, self.updated_at))

    def replay(self, pipeline: PipelineKey, at: datetime, note: str) -> "Arrival":
        """Return the arrival held for a pipeline, on a person's word: an ignored or failed one again, a held one moved.

        A held one is moved when its own pipeline is gone, or was renamed.
        """
        if self.state is ArrivalState.HELD:
            if self.pipeline == pipeline:
                return self
            at = max(at, self.updated_at)
            history = (*self.history, Change(state=self.state.value, at=at, note=note))[-CHANGES_KEPT:]
            return replace(self, pipeline=pipeline, reason=None, updated_at=at, history=history)
        if self.state is ArrivalState.ASSIGNED:
            raise self._refuse("held")  # its run is alive: replaying now could put it into two
        return self._become(ArrivalState.HELD, at, note=note, pipeline=pipeline, reason=None, run_id=None)

    def supersede(self, at: datetime, reason: str) -> "Arrival":
        """Return the arrival given up for a newer version of its path."""
        return self._settle(ArrivalState.SUPERSEDED, at, reason)

    def ignore(self, at: datetime, reason: str) -> "Arrival":
        """Return a held arrival given up, with the reason."""
        return self._settle(ArrivalState.IGNORED, at, reason)

    def mark_scored(self, run_id: RunId, at: datetime) -> "Arrival":
        """Return the arrival whose run completed with verified outputs."""
        if self.run_id != run_id:
            raise self._refuse("scored")
        return self._settle(ArrivalState.SCORED, at, None)

    def mark_failed(self, run_id: RunId, at: datetime, reason: str) -> "Arrival":
        """Return the arrival whose run ended without scores."""
        if self.run_id != run_id:
            raise self._refuse("failed")
        return self._settle(ArrivalState.FAILED, at, reason)

    def blame(self, run_id: RunId, at: datetime, reason: str) -> "Arrival":
        """Return the arrival failed for what is wrong with itself; one that has failed already learns the reason."""
        failed = self.mark_failed(run_id, at, reason)
        return (
            failed if failed.reason == reason else replace(failed, reason=reason, updated_at=max(at, self.updated_at))
        )

    def _settle(self, state: ArrivalState, at: datetime, reason: str | None) -> "Arrival":
        return self if self.state is state else self._become(state, at, note=reason or "", reason=reason)

    def _become(self, state: ArrivalState, at: datetime, *, note: str, **changes: object) -> "Arrival":
        if state not in ARRIVAL_TRANSITIONS[self.state]:
            raise self._refuse(state.value)
        at = max(at, self.updated_at)  # a clock that jumps back does not reorder the history
        history = (*self.history, Change(state=state.value, at=at, note=note))[-CHANGES_KEPT:]
        return replace(self, state=state, updated_at=at, history=history, **changes)  # type: ignore[arg-type] # fields of this class, by name

    def _refuse(self, wanted: str) -> IllegalTransitionError:
        return IllegalTransitionError(RunRule.FOLLOW_THE_TABLE, self.id, self.state.value, wanted)


class CauseKind(StrEnum):
    """What asked for a run."""

    ARRIVALS = "arrivals"
    SCHEDULE = "schedule"
    REQUEST = "request"
    SIGNAL = "signal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What asked for a run: its kind, its own name, its own time."""

    kind: CauseKind
    name: str  # the schedule's name, the request's id, the batch id, or the signal's name
    at: datetime

    def __post_init__(self) -> None:
        require_utc(self.at, "at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt of a run that is over; the current one is the run itself."""

    number: int
    token: IdempotencyToken | None
    databricks_run_id: DatabricksRunId | None
    outcome: Outcome | None  # None: it never ran or failed for a passing reason, so nothing was announced
    reason: str | None
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One decision with its frozen batch, through all its attempts; also the outbox of its events."""

    id: RunId
    pipeline: PipelineKey
    kind: RunKind
    job: JobKey
    environment: str
    state: RunState
    cause: Cause
    stages: Mapping[Stage, bool]
    parameters: Mapping[str, str]  # the tunable ones, complete
    model_name: str
    model_version: str | None  # pinned when the run was decided; None for training
    batch_id: BatchId
    output_url: str  # "" for training
    created_at: datetime
    updated_at: datetime
    attempt: int = 1
    max_attempts: int = 1
    arrivals: tuple[ArrivalId, ...] = ()  # the first ones; the manifest has them all
    arrival_count: int = 0
    file_count: int = 0
    manifest: ManifestPointer | None = None
    traceparent: str | None = None
    config_version: str = ""
    consignment: str = ""  # whose files it reads: container/folder/
    replaces: RunId | None = None  # the run over fewer or older files of the same consignment
    token: IdempotencyToken | None = None
    databricks_run_id: DatabricksRunId | None = None
    run_page_url: str = ""
    outcome: Outcome | None = None
    reason: str | None = None
    completion: CompletionEvent | None = None  # of the current attempt: reported by the notebook, or made by us
    verdict: CompletionEvent | None = None  # the success that was proven before a report, while its end is written
    published_at: datetime | None = None  # when the topic had taken `completion`
    release_owed: bool = False  # files that were not to blame for its failure are still to be held again
    stall: StalledEvent | None = None  # of the current attempt, in the outbox until `stall_published_at`
    stall_published_at: datetime | None = None
    cancel_wanted_at: datetime | None = None  # when a person first asked for the current attempt's end
    # Of an attempt that repairs its predecessor's Databricks run: the latest repair when that was decided, 0 for none.
    repair_after: int | None = None
    setback: Setback | None = None  # why the current attempt, which is to be sent, was put back lately: a hint
    submitted_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()
    history: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        for name in ("created_at", "updated_at"):
            require_utc(getattr(self, name), name)
        if len(self.arrivals) > ARRIVALS_KEPT:
            raise ValueError(f"a run's row keeps at most {ARRIVALS_KEPT} arrival ids, got {len(self.arrivals)}")
        if (self.state is RunState.ENDED) != (self.outcome is not None):
            raise ValueError(f"a run that is {self.state.value} has outcome {self.outcome!r}")
        if self.release_owed and self.outcome is not Outcome.FAILED:
            raise ValueError(f"only a run that has failed sets files free, not one that is {self.state.value}")
        if self.kind is RunKind.SCORING and not self.model_version:
            raise ValueError("a scoring run needs a pinned model version")

    @property
    def is_cancel_wanted(self) -> bool:
        """Whether the current attempt is to end before its time."""
        return self.cancel_wanted_at is not None

    @property
    def is_story_over(self) -> bool:
        """Whether nothing is left to do: it ended, its events were published, and its good files are held again."""
        is_told = self.published_at is not None and not self.owes_stall
        return self.state is RunState.ENDED and is_told and not self.release_owed

    @property
    def owes_stall(self) -> bool:
        """Whether the topic does not have yet that the current attempt is stalled."""
        return self.stall is not None and self.stall_published_at is None

    @property
    def began_at(self) -> datetime:
        """When the current attempt was decided; its SLA counts from there, waiting for room included."""
        decided = (change.at for change in reversed(self.history) if change.state == RunState.DECIDED.value)
        return next(decided, self.created_at)
