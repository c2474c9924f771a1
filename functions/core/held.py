"""Builds, reads and checks the event that announces that a budget holds a pipeline's work back."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from functions.core.envelope import envelope_of, event_to_json, parse_event, read_event
from functions.core.model import PipelineKey, require_utc
from functions.core.reading import Reader
from functions.core.reasons import HoldReason

__all__ = ["BUDGET_REASONS", "HeldEvent", "held_event_id"]

BUDGET_REASONS: Final = frozenset({HoldReason.BUDGET_SPENT, HoldReason.TOTAL_BUDGET_SPENT})
_SCHEMA: Final = "urn:tidegate:schema:held-event:1"
_DATA_KEYS: Final = ("schema_version", "pipeline", "environment", "reason", "day", "begun", "max_runs_per_day")


def held_event_id(pipeline: PipelineKey, day: date) -> str:
    """Return the event's id: a pipeline is announced as held once a day, whoever does it."""
    return f"{pipeline}.{day.isoformat()}.held"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEvent:
    """A pipeline's work waits because a day's budget is spent; a CloudEvents 1.0 event.

    Nothing is lost: what is held goes on after midnight UTC, or as soon as a person allows more.
    """

    pipeline: PipelineKey
    environment: str
    reason: HoldReason  # one of BUDGET_REASONS
    day: date  # in UTC
    begun: int  # attempts on this day: of the pipeline, or of all together
    max_runs_per_day: int
    time: datetime
    traceparent: str = ""

    def __post_init__(self) -> None:
        require_utc(self.time, "time")
        if self.reason not in BUDGET_REASONS:
            raise ValueError(f"expected a spent budget, got {self.reason!r}")

    @property
    def id(self) -> str:
        """The deterministic id: pipeline and day."""
        return held_event_id(self.pipeline, self.day)

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return "tidegate.pipeline.held"

    @property
    def source(self) -> str:
        """The CloudEvents source."""
        return f"/tidegate/{self.environment}"

    @property
    def subject(self) -> str:
        """The CloudEvents subject."""
        return f"pipelines/{self.pipeline}"

    @property
    def dataschema(self) -> str:
        """The CloudEvents dataschema."""
        return _SCHEMA

    def to_document(self) -> dict[str, object]:
        """Return the event under docs/contracts/held-event.schema.json."""
        return envelope_of(self)

    def to_data(self) -> dict[str, object]:
        """Return the event's data alone, for a publisher that writes the envelope itself."""
        return {
            "schema_version": 1,
            "pipeline": self.pipeline,
            "environment": self.environment,
            "reason": self.reason.value,
            "day": self.day.isoformat(),
            "begun": self.begun,
            "max_runs_per_day": self.max_runs_per_day,
        }

    def to_json(self) -> str:
        """Return the document as compact JSON; raises ValueError at 64 KB."""
        return event_to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> "HeldEvent":
        """Return the event in a message; raises InvalidDocumentError listing every mistake."""
        return cls.from_document(parse_event(text, "held event"))

    @classmethod
    def from_document(cls, document: object) -> "HeldEvent":
        """Return the event in a parsed document; the envelope must agree with the data."""
        return read_event(document, "held event", dataschema=_SCHEMA, read=_read_event)


def _read_event(data: Reader, time: datetime, traceparent: str) -> HeldEvent:
    data.mapping(required=_DATA_KEYS)
    data.child("schema_version").constant(1)
    reason = data.child("reason").one_of(HoldReason)
    if reason not in BUDGET_REASONS:
        data.child("reason").refuse(f"one of {', '.join(sorted(BUDGET_REASONS))}")
        reason = HoldReason.BUDGET_SPENT
    return HeldEvent(
        pipeline=PipelineKey(data.child("pipeline").text(pattern="[a-z][a-z0-9_]{0,47}", expected="a pipeline's name")),
        environment=data.child("environment").text(pattern="[a-z][a-z0-9]{0,15}", expected="an environment's name"),
        reason=reason,
        day=_read_day(data.child("day")),
        begun=data.child("begun").integer(minimum=0),
        max_runs_per_day=data.child("max_runs_per_day").integer(minimum=0),
        time=time,
        traceparent=traceparent,
    )


def _read_day(reader: Reader) -> date:
    text = reader.text(pattern="[0-9]{4}-[0-9]{2}-[0-9]{2}", expected="a day as yyyy-mm-dd")
    try:
        return date.fromisoformat(text)
    except ValueError:
        reader.refuse("a day that there is")
        return datetime.fromtimestamp(0, UTC).date()
