"""Lists what is killed where: a point of the story, a side of its effect, a victim, and what else goes wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tests.support.fragile_cloud import Victim
from tests.support.tripwire import When

__all__ = ["ALL", "QUICK", "Combination", "StoryKind", "pipelines_toml"]


class StoryKind(StrEnum):
    """What happens, if nothing goes wrong."""

    FILE = "file"  # one file, scored at once
    WINDOW = "window"  # three files in one batch
    SILENT = "silent"  # one file, and a notebook that fails without a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One way in which things go wrong."""

    point: str = ""  # none: the scripted faults alone
    when: When = When.BEFORE
    victim: Victim | None = None  # none: only the answer is lost
    story: StoryKind = StoryKind.FILE
    times: int = 1
    workspace_fault: Mapping[str, Any] | None = None
    event_grid_fault: Mapping[str, Any] | None = None
    name: str = ""

    @property
    def id(self) -> str:
        """Its name in a test's id and on a command line."""
        strike = f"{self.victim or 'nobody'}-{self.when}-{self.point}" if self.point else "faults"
        parts = (strike, f"x{self.times}" if self.times > 1 else "", self.story, self.name)
        return "-".join(part for part in parts if part and part != StoryKind.FILE)

    @property
    def pipeline(self) -> str:
        """The pipeline that it has for itself."""
        return f"kill{ALL.index(self):03}q"

    @property
    def files(self) -> int:
        """How many blobs its story begins with."""
        return 3 if self.story is StoryKind.WINDOW else 1

    @property
    def is_swept_up(self) -> bool:
        """Whether Event Grid never says a word about its files."""
        fault = self.event_grid_fault or {}
        return fault.get("kind") == "lose_event" and "subscription" not in fault

    @property
    def outcome(self) -> str:
        """How its runs end: a notebook that has reported success and dies is not believed, and not repeated."""
        dies_late = self.victim in {Victim.NOTEBOOK, Victim.WORKSPACE} and self.when is When.AFTER
        is_failed = self.story is StoryKind.SILENT or (self.point == "end_reported" and dies_late)
        return "failed" if is_failed else "completed"


def _before(victim: Victim | None, *points: str, **more: Any) -> list[Combination]:
    return [Combination(point=point, when=When.BEFORE, victim=victim, **more) for point in points]


def _after(victim: Victim | None, *points: str, **more: Any) -> list[Combination]:
    return [Combination(point=point, when=When.AFTER, victim=victim, **more) for point in points]


def _both(victim: Victim | None, *points: str, **more: Any) -> list[Combination]:
    return [*_before(victim, *points, **more), *_after(victim, *points, **more)]


_RUN_NOW: Final = {"method": "POST", "path": "/jobs/run-now$", "times": 1}
_THROTTLED: Final = {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}


def _faults() -> list[Combination]:
    """Return what is lost, refused or repeated by script, alone and together with a kill."""
    lost: dict[str, Any] = {**_RUN_NOW, "action": {"drop_response": True}}
    slow = {**_RUN_NOW, "action": {"delay_s": 2}}
    throttled = {**_RUN_NOW, "action": {"status": 429, "retry_after": 1, "body": _THROTTLED}}
    down = {**_RUN_NOW, "times": 3, "action": {"status": 503}}
    lost_event = {"kind": "lose_event"}  # the sweep finds the file once it is no news any more
    dies = {**_RUN_NOW, "action": {"kill_run_after_s": 0.0}}
    return [
        Combination(name="run_now_answer_lost", workspace_fault=lost),
        Combination(name="run_now_throttled", workspace_fault=throttled),
        Combination(name="run_now_unavailable", workspace_fault=down),
        Combination(name="driver_lost_at_start", workspace_fault=dies),
        Combination(
            name="run_now_slow", workspace_fault=slow, point="run_written", when=When.AFTER, victim=Victim.WORKER
        ),
        Combination(
            name="run_now_answer_lost",
            workspace_fault=lost,
            point="report_recorded",  # the notebook is faster than whoever finds the run again
            victim=Victim.WORKER,
        ),
        Combination(name="delivered_six_times", event_grid_fault={"kind": "duplicate_delivery", "copies": 5}),
        Combination(name="delivery_dropped", event_grid_fault={"kind": "drop_delivery"}),
        Combination(
            name="delivered_six_times",
            event_grid_fault={"kind": "duplicate_delivery", "copies": 5},
            point="arrivals_claimed",
            when=When.AFTER,
            victim=Victim.WORKER,
        ),
        Combination(name="event_lost", event_grid_fault=lost_event),
        *_after(Victim.WORKER, "arrival_recorded", name="event_lost", event_grid_fault=lost_event),
        *_after(Victim.AZURITE, "arrival_recorded", name="event_lost", event_grid_fault=lost_event),
        Combination(name="report_lost", event_grid_fault={"kind": "lose_event", "subscription": "completions"}),
        Combination(name="publish_answer_lost", event_grid_fault={"kind": "lose_publish_answer"}),
        Combination(name="publish_refused", event_grid_fault={"kind": "refuse_publish"}, story=StoryKind.SILENT),
    ]


_WRITES_OF_THE_WORKER: Final = (
    "arrival_recorded",
    "arrival_indexed",
    "arrivals_claimed",
    "batch_frozen",
    "run_opened",
    "run_written",
    "run_started",
    "submission_recorded",
    "index_cleared",
    "report_recorded",
    "confirmation_queued",
    "arrivals_settled",
    "end_recorded",
    "run_closed",
)

# A worker that dies before a write has died after the one before it, so most points need one side only.
ALL: Final[Sequence[Combination]] = (
    *_before(Victim.WORKER, "arrival_recorded", "run_started"),
    *_after(Victim.WORKER, *_WRITES_OF_THE_WORKER),
    *_before(Victim.WORKER, "end_announced", story=StoryKind.SILENT),
    *_after(Victim.WORKER, "end_announced", "announcement_recorded", story=StoryKind.SILENT),
    *_after(Victim.WORKER, "arrivals_claimed", "batch_frozen", "index_cleared", story=StoryKind.WINDOW),
    *_before(Victim.WORKER, "run_started", times=2),
    *_before(Victim.WORKER, "run_written", times=2, story=StoryKind.WINDOW),
    *_both(Victim.HOST, "delivery_acknowledged"),
    *_after(Victim.HOST, "run_started", "end_recorded"),
    *_both(Victim.AZURITE, "blob_committed", "run_written", "end_recorded"),
    *_before(Victim.WORKSPACE, "model_resolved", "end_confirmed"),
    *_both(Victim.WORKSPACE, "run_started", "end_reported"),
    *_after(Victim.WORKSPACE, "scores_published"),
    *_both(Victim.EVENT_GRID, "blob_committed", "event_delivered", "end_reported"),
    *_after(Victim.EVENT_GRID, "report_delivered"),
    *_both(Victim.NOTEBOOK, "scores_published", "end_reported"),
    *_after(None, "arrivals_claimed", "run_started", "end_recorded"),
    *_faults(),
)

# A few of them, quick to recover from, that between them kill every process but Event Grid's storage.
QUICK: Final = frozenset(
    {
        "worker-after-run_started",
        "host-after-run_started",
        "azurite-after-run_written",
        "workspace-after-run_started",
        "event_grid-before-end_reported",
        "notebook-after-scores_published",
    }
)


def pipelines_toml(combinations: Sequence[Combination]) -> str:
    """Return a `pipelines.toml` with one pipeline for each combination."""
    return "schema = 1\n" + "\n".join(_pipeline(combination) for combination in combinations)


def _pipeline(combination: Combination) -> str:
    window = (
        "quiet_seconds = 2, max_wait_seconds = 20" if combination.story is StoryKind.WINDOW else "quiet_seconds = 0"
    )
    attempts = 1 if combination.story is StoryKind.SILENT else 4
    return f"""
[pipelines.{combination.pipeline}]
kind = "scoring"
job = "scoring"
model = "main.tidegate.{combination.pipeline}"
batching = {{ {window} }}
concurrency = {{ policy = "parallel", max_active = 4 }}
retry = {{ max_attempts = {attempts} }}
output = {{ container = "scores" }}

[[pipelines.{combination.pipeline}.routes]]
name = "files"
container = "input"
prefix = "{combination.pipeline}/"
glob = "*.parquet"
"""
