"""Turns ledger entries into flat table rows and back, and into what people are shown."""

from collections.abc import Mapping
from datetime import datetime

from functions.core.ledger import Arrival, Attempt, Cause, CauseKind, Run
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
)
from functions.core.reading import Reader, to_iso
from functions.core.row_fields import SCHEMA_VERSION, RowFields, attempts_to_text, history_to_text, to_text
from functions.core.rows import Row, pack_row

__all__ = [
    "arrival_from_row",
    "arrival_to_public_json",
    "arrival_to_row",
    "model_version_of",
    "run_from_row",
    "run_to_public_json",
    "run_to_row",
    "run_to_summary_json",
]


def arrival_to_row(arrival: Arrival) -> Row:
    """Return the arrival as a flat row of text and small integers; times are sortable text."""
    blob = arrival.blob
    return pack_row(
        {
            "schema": SCHEMA_VERSION,
            "id": arrival.id,
            "account": blob.account,
            "container": blob.container,
            "path": blob.path,
            "etag": blob.etag,
            "size_bytes": str(blob.size_bytes),
            "sequencer": blob.sequencer,
            "state": arrival.state.value,
            "event_id": arrival.event_id,
            "event_time": to_iso(arrival.event_time),
            "api": arrival.api,
            "content_type": arrival.content_type,
            "recorded_at": to_iso(arrival.recorded_at),
            "updated_at": to_iso(arrival.updated_at),
            "pipeline": arrival.pipeline,
            "route": arrival.route,
            "reason": arrival.reason,
            "run_id": arrival.run_id,
            "deliveries": arrival.deliveries,
            "traceparent": arrival.traceparent,
            "config_version": arrival.config_version,
            "source": arrival.source.value,
            "consignment": arrival.consignment or None,
            "contradictions": to_text(arrival.contradictions) if arrival.contradictions else None,
            "history": history_to_text(arrival.history),
        }
    )


def arrival_from_row(row: Mapping[str, object]) -> Arrival:
    """Return the arrival in a row, whatever other columns the table adds; raises InvalidDocumentError."""
    fields = RowFields(row, "arrival row")
    blob = BlobVersion(
        account=fields.text("account"),
        container=fields.text("container"),
        path=fields.text("path"),
        etag=fields.text("etag"),
        size_bytes=fields.large_integer("size_bytes"),
        sequencer=fields.optional_text("sequencer"),
    )
    pipeline, run_id = fields.optional_text("pipeline"), fields.optional_text("run_id")
    return fields.build(
        lambda: Arrival(
            id=ArrivalId(fields.text("id")),
            blob=blob,
            state=fields.reader("state").one_of(ArrivalState),
            event_id=fields.text("event_id"),
            event_time=fields.instant("event_time"),
            api=fields.text("api"),
            content_type=fields.text("content_type"),
            recorded_at=fields.instant("recorded_at"),
            updated_at=fields.instant("updated_at"),
            pipeline=None if pipeline is None else PipelineKey(pipeline),
            route=fields.text("route"),
            reason=fields.optional_text("reason"),
            run_id=None if run_id is None else RunId(run_id),
            deliveries=fields.reader("deliveries").integer(minimum=1),
            traceparent=fields.optional_text("traceparent"),
            config_version=fields.text("config_version"),
            source=fields.reader("source").one_of(ArrivalSource, default=ArrivalSource.EVENT),
            consignment=fields.optional_text("consignment") or "",
            contradictions=fields.texts("contradictions"),
            history=fields.history("history"),
        )
    )


def run_to_row(run: Run) -> Row:
    """Return the run, with its outbox, as a flat row of text and small integers."""
    return pack_row(
        {
            "schema": SCHEMA_VERSION,
            "id": run.id,
            "pipeline": run.pipeline,
            "kind": run.kind.value,
            "job": run.job,
            "environment": run.environment,
            "state": run.state.value,
            "cause_kind": run.cause.kind.value,
            "cause_name": run.cause.name,
            "cause_at": to_iso(run.cause.at),
            "stages": to_text({stage.value: is_on for stage, is_on in run.stages.items()}),
            "parameters": to_text(dict(run.parameters)),
            "model_name": run.model_name,
            "model_version": run.model_version,
            "batch_id": run.batch_id,
            "output_url": run.output_url,
            "created_at": to_iso(run.created_at),
            "updated_at": to_iso(run.updated_at),
            "attempt": run.attempt,
            "max_attempts": run.max_attempts,
            "arrivals": " ".join(run.arrivals),
            "arrival_count": run.arrival_count,
            "file_count": run.file_count,
            "manifest_url": None if run.manifest is None else run.manifest.url,
            "manifest_sha256": None if run.manifest is None else run.manifest.sha256,
            "traceparent": run.traceparent,
            "config_version": run.config_version,
            "consignment": run.consignment or None,
            "replaces": run.replaces,
            "token": run.token,
            "databricks_run_id": None if run.databricks_run_id is None else str(run.databricks_run_id),
            "run_page_url": run.run_page_url,
            "outcome": None if run.outcome is None else run.outcome.value,
            "reason": run.reason,
            "completion": None if run.completion is None else run.completion.to_json(),
            "verdict": None if run.verdict is None else run.verdict.to_json(),
            "published_at": _iso(run.published_at),
            "release_owed": True if run.release_owed else None,
            "stall": None if run.stall is None else run.stall.to_json(),
            "stall_published_at": _iso(run.stall_published_at),
            "cancel_wanted_at": _iso(run.cancel_wanted_at),
            "repair_after": None if run.repair_after is None else str(run.repair_after),
            "setback": None if run.setback is None else run.setback.to_text(),
            "submitted_at": _iso(run.submitted_at),
            "finished_at": _iso(run.finished_at),
            "attempts": attempts_to_text(run.attempts),
            "history": history_to_text(run.history),
        }
    )


def run_from_row(row: Mapping[str, object]) -> Run:
    """Return the run in a row, whatever other columns the table adds; raises InvalidDocumentError."""
    fields = RowFields(row, "run row")
    token, replaces = fields.optional_text("token"), fields.optional_text("replaces")
    return fields.build(
        lambda: Run(
            id=RunId(fields.text("id")),
            pipeline=PipelineKey(fields.text("pipeline")),
            kind=fields.reader("kind").one_of(RunKind),
            job=JobKey(fields.text("job")),
            environment=fields.text("environment"),
            state=fields.reader("state").one_of(RunState),
            cause=Cause(
                kind=fields.reader("cause_kind").one_of(CauseKind),
                name=fields.text("cause_name"),
                at=fields.instant("cause_at"),
            ),
            stages={
                Reader(name, f"{reader.place} (stage)", fields.problems).one_of(Stage): reader.boolean()
                for name, reader in fields.document("stages").children()
            },
            parameters={name: reader.text() for name, reader in fields.document("parameters").children()},
            model_name=fields.text("model_name"),
            model_version=fields.optional_text("model_version"),
            batch_id=BatchId(fields.text("batch_id")),
            output_url=fields.text("output_url"),
            created_at=fields.instant("created_at"),
            updated_at=fields.instant("updated_at"),
            attempt=fields.reader("attempt").integer(minimum=1),
            max_attempts=fields.reader("max_attempts").integer(minimum=1),
            arrivals=tuple(ArrivalId(item) for item in fields.text("arrivals").split()),
            arrival_count=fields.reader("arrival_count").integer(minimum=0),
            file_count=fields.reader("file_count").integer(minimum=0),
            manifest=fields.manifest_pointer(),
            traceparent=fields.optional_text("traceparent"),
            config_version=fields.text("config_version"),
            consignment=fields.optional_text("consignment") or "",
            replaces=None if replaces is None else RunId(replaces),
            token=None if token is None else IdempotencyToken(token),
            databricks_run_id=(
                None
                if fields.reader("databricks_run_id").is_absent
                else DatabricksRunId(fields.large_integer("databricks_run_id"))
            ),
            run_page_url=fields.text("run_page_url"),
            outcome=fields.optional_outcome("outcome"),
            reason=fields.optional_text("reason"),
            completion=fields.completion("completion"),
            verdict=fields.completion("verdict"),
            published_at=fields.optional_instant("published_at"),
            release_owed=False if fields.reader("release_owed").is_absent else fields.reader("release_owed").boolean(),
            stall=fields.stall(),
            stall_published_at=fields.optional_instant("stall_published_at"),
            cancel_wanted_at=fields.optional_instant("cancel_wanted_at"),
            repair_after=None if fields.reader("repair_after").is_absent else fields.large_integer("repair_after"),
            setback=fields.setback(),
            submitted_at=fields.optional_instant("submitted_at"),
            finished_at=fields.optional_instant("finished_at"),
            attempts=fields.attempts("attempts"),
            history=fields.history("history"),
        )
    )


def run_to_public_json(
    run: Run, *, waits: str | None = None, setback: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Return what `tidegate runs --json` and the status URL show of a run.

    Args:
        run: The run.
        waits: Why its pipeline starts nothing.
        setback: Why it could not be sent yet, as people are shown that.
    """
    return {
        "id": run.id,
        "pipeline": run.pipeline,
        "kind": run.kind.value,
        "state": run.state.value,
        "outcome": None if run.outcome is None else run.outcome.value,
        "reason": run.reason,
        "waits": waits,
        "setback": setback,
        "attempt": run.attempt,
        "token": run.token,
        "databricks_run_id": run.databricks_run_id,
        "run_page_url": run.run_page_url or None,
        "model_name": run.model_name,
        "model_version": model_version_of(run),
        "arrivals": list(run.arrivals),
        "arrival_count": run.arrival_count,
        "file_count": run.file_count,
        "consignment": run.consignment or None,
        "replaces": run.replaces,
        "cause": {"kind": run.cause.kind.value, "name": run.cause.name, "at": to_iso(run.cause.at)},
        "stages": {stage.value: is_on for stage, is_on in run.stages.items()},
        "parameters": dict(run.parameters),
        "manifest_url": None if run.manifest is None else run.manifest.url,
        "scores_url": run.output_url if run.outcome is Outcome.COMPLETED and run.output_url else None,
        "completion_event_id": None if run.completion is None else run.completion.id,
        "published_at": _iso(run.published_at),
        "stalled_at": None if run.stall is None else to_iso(run.stall.time),
        "cancel_wanted_at": _iso(run.cancel_wanted_at),
        "traceparent": run.traceparent,
        "config_version": run.config_version,
        "created_at": to_iso(run.created_at),
        "submitted_at": _iso(run.submitted_at),
        "finished_at": _iso(run.finished_at),
        "attempts": [_attempt_json(attempt) for attempt in run.attempts],
        "history": [{"state": change.state, "at": to_iso(change.at), "note": change.note} for change in run.history],
    }


def model_version_of(run: Run) -> str | None:
    """Return the version that a scoring run uses, or that a training run made."""
    made = None if run.completion is None else run.completion.model
    return run.model_version or (None if made is None else made.version)


def run_to_summary_json(run: Run, *, setback: Mapping[str, object] | None = None) -> dict[str, object]:
    """Return what people are shown of a run beside one of its arrivals."""
    document = run_to_public_json(run, setback=setback)
    shown = ("id", "state", "outcome", "reason", "setback", "attempt", "run_page_url", "attempts")
    return {key: document[key] for key in shown}


def arrival_to_public_json(arrival: Arrival, *, waits: str | None = None) -> dict[str, object]:
    """Return what people are shown of an arrival; `waits`: why nothing of its pipeline starts."""
    return {
        "id": arrival.id,
        "url": arrival.blob.url,
        "etag": arrival.blob.etag,
        "size_bytes": arrival.blob.size_bytes,
        "state": arrival.state.value,
        "reason": arrival.reason,
        "waits": waits,
        "pipeline": arrival.pipeline,
        "route": arrival.route or None,
        "run_id": arrival.run_id,
        "deliveries": arrival.deliveries,
        "source": arrival.source.value,
        "consignment": arrival.consignment or None,
        "contradictions": list(arrival.contradictions),
        "api": arrival.api,
        "event_id": arrival.event_id,
        "event_time": to_iso(arrival.event_time),
        "recorded_at": to_iso(arrival.recorded_at),
        "updated_at": to_iso(arrival.updated_at),
        "config_version": arrival.config_version,
        "history": [
            {"state": change.state, "at": to_iso(change.at), "note": change.note} for change in arrival.history
        ],
    }


def _attempt_json(attempt: Attempt) -> dict[str, object]:
    return {
        "number": attempt.number,
        "token": attempt.token,
        "databricks_run_id": attempt.databricks_run_id,
        "outcome": None if attempt.outcome is None else attempt.outcome.value,
        "reason": attempt.reason,
        "ended_at": to_iso(attempt.ended_at),
    }


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else to_iso(instant)
