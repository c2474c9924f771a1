"""Builds, reads and checks the event that announces an attempt open for longer than its pipeline's SLA."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from functions.core.envelope import envelope_of, event_to_json, parse_event, read_event
from functions.core.model import DatabricksRunId, PipelineKey, RunId, RunKind, RunState, require_utc
from functions.core.reading import Reader, to_iso
from functions.core.tokens import RUN_ID_PATTERN

__all__ = ["StalledEvent", "stalled_event_id"]

_SCHEMA: Final = "urn:tidegate:schema:stalled-event:1"
_DATA_KEYS: Final = (
    "schema_version",
    "run_id",
    "attempt",
    "pipeline",
    "kind",
    "environment",
    "state",
    "since",
    "stalled_after_minutes",
    "databricks_run_id",
    "run_page_url",
)


def stalled_event_id(run_id: RunId, attempt: int) -> str:
    """Return the event's id: an attempt is announced as stalled once, whoever does it."""
    return f"{run_id}.{attempt}.stalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class StalledEvent:
    """An attempt of a run is past its SLA and still open; a CloudEvents 1.0 event.

    It ends nothing: the attempt's completion event follows when it ends.
    """

    run_id: RunId
    attempt: int
    pipeline: PipelineKey
    kind: RunKind
    environment: str
    state: RunState  # where the run stood
    since: datetime  # when the attempt was decided
    stalled_after_minutes: int
    databricks_run_id: DatabricksRunId | None
    run_page_url: str
    time: datetime
    traceparent: str = ""

    def __post_init__(self) -> None:
        require_utc(self.time, "time")
        require_utc(self.since, "since")

    @property
    def id(self) -> str:
        """The deterministic id: run and attempt."""
        return stalled_event_id(self.run_id, self.attempt)

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return f"tidegate.{self.kind.value}.stalled"

    @property
    def source(self) -> str:
        """The CloudEvents source."""
        return f"/tidegate/{self.environment}"

    @property
    def subject(self) -> str:
        """The CloudEvents subject."""
        return f"pipelines/{self.pipeline}/runs/{self.run_id}"

    @property
    def dataschema(self) -> str:
        """The CloudEvents dataschema."""
        return _SCHEMA

    def to_document(self) -> dict[str, object]:
        """Return the event under docs/contracts/stalled-event.schema.json."""
        return envelope_of(self)

    def to_data(self) -> dict[str, object]:
        """Return the event's data alone, for a publisher that writes the envelope itself."""
        return {
            "schema_version": 1,
            "run_id": self.run_id,
            "attempt": self.attempt,
            "pipeline": self.pipeline,
            "kind": self.kind.value,
            "environment": self.environment,
            "state": self.state.value,
            "since": to_iso(self.since),
            "stalled_after_minutes": self.stalled_after_minutes,
            "databricks_run_id": self.databricks_run_id,
            "run_page_url": self.run_page_url,
        }

    def to_json(self) -> str:
        """Return the document as compact JSON; raises ValueError at 64 KB."""
        return event_to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> "StalledEvent":
        """Return the event in a message; raises InvalidDocumentError listing every mistake."""
        return cls.from_document(parse_event(text, "stalled event"))

    @classmethod
    def from_document(cls, document: object) -> "StalledEvent":
        """Return the event in a parsed document; the envelope must agree with the data."""
        return read_event(document, "stalled event", dataschema=_SCHEMA, read=_read_event)


def _read_event(data: Reader, time: datetime, traceparent: str) -> StalledEvent:
    data.mapping(required=_DATA_KEYS)
    data.child("schema_version").constant(1)
    databricks_run_id = data.child("databricks_run_id").nullable_integer(minimum=0)
    return StalledEvent(
        run_id=RunId(data.child("run_id").text(pattern=RUN_ID_PATTERN, expected="a run id")),
        attempt=data.child("attempt").integer(minimum=1),
        pipeline=PipelineKey(data.child("pipeline").text(pattern="[a-z][a-z0-9_]{0,47}", expected="a pipeline's name")),
        kind=data.child("kind").one_of(RunKind),
        environment=data.child("environment").text(pattern="[a-z][a-z0-9]{0,15}", expected="an environment's name"),
        state=data.child("state").one_of(RunState),
        since=data.child("since").instant(),
        stalled_after_minutes=data.child("stalled_after_minutes").integer(minimum=1),
        databricks_run_id=None if databricks_run_id is None else DatabricksRunId(databricks_run_id),
        run_page_url=data.child("run_page_url").text(max_length=4096),
        time=time,
        traceparent=traceparent,
    )
