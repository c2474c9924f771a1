"""Builds, reads and checks the completion event, the one event that ends an attempt of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from functions.core.envelope import envelope_of, event_to_json, parse_event, read_event
from functions.core.lineage import InputsRef, ModelRef, OutputsRef, RefusedRef, StageResult, shortened
from functions.core.model import (
    DatabricksRunId,
    IdempotencyToken,
    Outcome,
    PipelineKey,
    RunId,
    RunKind,
    Stage,
    require_utc,
)
from functions.core.reading import Reader
from functions.core.tokens import RUN_ID_PATTERN

__all__ = ["Announcer", "CompletionEvent", "completion_event_id"]

_SCHEMA: Final = "urn:tidegate:schema:completion-event:1"
_SHA256: Final = r"[0-9a-f]{64}"
_MAX_REASON: Final = 4000
_REASON_BYTES: Final = 6000
_MAX_CONSIGNMENT: Final = 1100  # a container and most of a blob's name

Announcer = Literal["notebook", "control_plane"]


def completion_event_id(run_id: RunId, attempt: int, outcome: Outcome) -> str:
    """Return the event's id: whoever announces this outcome of this attempt, subscribers see one event."""
    return f"{run_id}.{attempt}.{outcome.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionEvent:
    """How one attempt of a run ended, with its whole lineage; a CloudEvents 1.0 event."""

    run_id: RunId
    attempt: int
    outcome: Outcome
    reason: str | None
    pipeline: PipelineKey
    kind: RunKind
    environment: str
    token: IdempotencyToken
    databricks_run_id: DatabricksRunId | None
    time: datetime
    announced_by: Announcer
    model: ModelRef | None = None
    inputs: InputsRef | None = None
    outputs: OutputsRef | None = None
    stages: tuple[StageResult, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    consignment: str = ""  # whose files the attempt read: container/folder/
    replaces: RunId | None = None  # the run over fewer or older files of the same consignment
    refused: RefusedRef | None = None  # the input files that alone are to blame for a failure, if that is known
    traceparent: str = ""

    def __post_init__(self) -> None:
        require_utc(self.time, "time")
        if self.attempt < 1:
            raise ValueError(f"attempt must be at least 1, got {self.attempt}")

    @property
    def id(self) -> str:
        """The deterministic id: run, attempt, outcome."""
        return completion_event_id(self.run_id, self.attempt, self.outcome)

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return f"tidegate.{self.kind.value}.{self.outcome.value}"

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
        """Return the event under docs/contracts/completion-event.schema.json; long reasons are shortened."""
        return envelope_of(self)

    def to_data(self) -> dict[str, object]:
        """Return the event's data alone, for a publisher that writes the envelope itself."""
        inputs, outputs, model = self.inputs, self.outputs, self.model
        return {
            "schema_version": 1,
            "run_id": self.run_id,
            "attempt": self.attempt,
            "outcome": self.outcome.value,
            "reason": shortened(self.reason, _MAX_REASON, max_bytes=_REASON_BYTES),
            "pipeline": self.pipeline,
            "kind": self.kind.value,
            "environment": self.environment,
            "token": self.token,
            "databricks_run_id": self.databricks_run_id,
            "model": None if model is None else model.to_fields(),
            "inputs": None if inputs is None else inputs.to_fields(),
            "outputs": None if outputs is None else outputs.to_fields(),
            "stages": [stage.to_fields() for stage in self.stages],
            "metrics": dict(self.metrics),
            "consignment": self.consignment or None,
            "replaces": self.replaces,
            "refused": None if self.refused is None else self.refused.to_fields(),
            "announced_by": self.announced_by,
        }

    def to_json(self) -> str:
        """Return the document as compact JSON; raises ValueError at 64 KB."""
        return event_to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> "CompletionEvent":
        """Return the event in a message; raises InvalidDocumentError listing every mistake."""
        return cls.from_document(parse_event(text, "completion event"))

    @classmethod
    def from_document(cls, document: object) -> "CompletionEvent":
        """Return the event in a parsed document; raises InvalidDocumentError listing every mistake.

        The envelope must agree with the data: an id, type or subject of another run is a mistake.
        """
        return read_event(document, "completion event", dataschema=_SCHEMA, read=_read_event)


_DATA_KEYS: Final = (
    "schema_version",
    "run_id",
    "attempt",
    "outcome",
    "reason",
    "pipeline",
    "kind",
    "environment",
    "token",
    "databricks_run_id",
    "model",
    "inputs",
    "outputs",
    "stages",
    "metrics",
    "announced_by",
)


_DATA_KEYS_SINCE: Final = ("consignment", "replaces", "refused")  # that a row or a notebook of the release before lacks


def _present(reader: Reader) -> Reader:
    """Return the reader, or one of a null in place of nothing."""
    return Reader(None, reader.place, reader.problems) if reader.is_absent else reader


def _read_event(data: Reader, time: datetime, traceparent: str) -> CompletionEvent:
    data.mapping(required=_DATA_KEYS, optional=_DATA_KEYS_SINCE)
    data.child("schema_version").constant(1)
    databricks_run_id = data.child("databricks_run_id").nullable_integer(minimum=0)
    announced_by = data.child("announced_by").text(pattern="notebook|control_plane", expected="who announces")
    model, inputs, outputs = data.child("model"), data.child("inputs"), data.child("outputs")
    consignment, replaces, refused = (_present(data.child(key)) for key in _DATA_KEYS_SINCE)
    before = replaces.nullable_text(pattern=RUN_ID_PATTERN, expected="a run id")
    data.child("metrics").mapping(optional=None)
    return CompletionEvent(
        run_id=RunId(data.child("run_id").text(pattern=RUN_ID_PATTERN, expected="a run id")),
        attempt=data.child("attempt").integer(minimum=1),
        outcome=data.child("outcome").one_of(Outcome),
        reason=data.child("reason").nullable_text(max_length=_MAX_REASON),
        pipeline=PipelineKey(data.child("pipeline").text(pattern="[a-z][a-z0-9_]{0,47}", expected="a pipeline's name")),
        kind=data.child("kind").one_of(RunKind),
        environment=data.child("environment").text(pattern="[a-z][a-z0-9]{0,15}", expected="an environment's name"),
        token=IdempotencyToken(data.child("token").text(pattern=_SHA256, expected="a sha256 in hex")),
        databricks_run_id=None if databricks_run_id is None else DatabricksRunId(databricks_run_id),
        time=time,
        announced_by="notebook" if announced_by == "notebook" else "control_plane",
        model=None if model.value is None else ModelRef.read(model),
        inputs=None if inputs.value is None else InputsRef.read(inputs),
        outputs=None if outputs.value is None else OutputsRef.read(outputs),
        stages=tuple(StageResult.read(item) for item in data.child("stages").items(max_items=len(Stage))),
        metrics={name: reader.number() for name, reader in data.child("metrics").children()},
        consignment=consignment.nullable_text(max_length=_MAX_CONSIGNMENT) or "",
        replaces=None if before is None else RunId(before),
        refused=None if refused.value is None else RefusedRef.read(refused),
        traceparent=traceparent,
    )
