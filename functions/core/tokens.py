"""Derives every identity from what it identifies, so that a crash anywhere can compute it again."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from functions.core.model import (
    ArrivalId,
    BatchId,
    BlobVersion,
    IdempotencyToken,
    JobKey,
    ModelSignal,
    PipelineKey,
    RunId,
    RunRequested,
    SlotDue,
    Stage,
    require_utc,
)

__all__ = [
    "RUN_ID_PATTERN",
    "arrival_id_of",
    "batch_id_of",
    "cause_time_of",
    "digest",
    "partition_of_run",
    "pipeline_of_run",
    "run_id_of",
    "run_id_of_batch",
    "run_id_of_request",
    "run_id_of_signal",
    "run_id_of_slot",
    "token_for",
]

RUN_ID_PATTERN: Final = r"[a-z][a-z0-9_]{0,47}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}"


def digest(*parts: str | int) -> str:
    """Return the sha256 in hex of the parts; a JSON array, so that ("ab", "c") and ("a", "bc") differ."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def arrival_id_of(blob: BlobVersion) -> ArrivalId:
    """Return the identity of an arrival: account, container, path and ETag; a redelivery has the same."""
    return ArrivalId(digest("arrival", blob.account, blob.container, blob.path, blob.etag))


def batch_id_of(arrival_ids: Iterable[ArrivalId]) -> BatchId:
    """Return the identity of a set of files: their order and repetition do not matter."""
    return BatchId(digest("batch", *sorted(set(arrival_ids)))[:16])


def run_id_of(pipeline: PipelineKey, at: datetime, *identity: str) -> RunId:
    """Return the run that a cause asks for: readable, sortable by the cause's own time, the same whenever asked.

    Args:
        pipeline: The pipeline that runs.
        at: The cause's own time, never the clock's.
        identity: What makes the cause itself, for example a schedule's name and slot.
    """
    stamp = require_utc(at, "at").strftime("%Y%m%dT%H%M%SZ").rjust(16, "0")
    return RunId(f"{pipeline}-{stamp}-{digest('run', pipeline, *identity)[:12]}")


def run_id_of_slot(event: SlotDue) -> RunId:
    """Return the one run of a schedule's slot, however often its timer fires."""
    return run_id_of(event.pipeline, event.slot, "slot", event.schedule, event.slot.isoformat())


def run_id_of_request(event: RunRequested) -> RunId:
    """Return the one run of a request, however often it is repeated with the same Idempotency-Key at the same time.

    The time is part of the id, so a repeat must carry the time of the first: the edge keeps key and time together.
    """
    return run_id_of(event.pipeline, event.requested_at, "request", event.request_id)


def run_id_of_signal(pipeline: PipelineKey, rule: str, signal: ModelSignal) -> RunId:
    """Return the one run of a signal's window, however many signals are about it and however often each comes."""
    window = (signal.window_start.isoformat(), signal.window_end.isoformat())
    return run_id_of(pipeline, signal.window_end, "signal", rule, signal.model_name, *window)


def run_id_of_batch(pipeline: PipelineKey, first_event_time: datetime, arrival_ids: Iterable[ArrivalId]) -> RunId:
    """Return the one run of a frozen set of arrivals; `first_event_time` is the oldest event's."""
    return run_id_of(pipeline, first_event_time, "batch", *sorted(set(arrival_ids)))


def cause_time_of(run_id: RunId, at: datetime) -> datetime:
    """Return `at` if it is the time in the run's id, else that time, to the second.

    A batch may be finished with other arrivals than its run was named after; by its time in the id it is found.
    """
    stamp = run_id.split("-")[1]
    named = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return at if at.replace(microsecond=0) == named else named


def pipeline_of_run(run_id: RunId) -> PipelineKey:
    """Return the pipeline that a run's id names; raises ValueError if it is no run id."""
    if not re.fullmatch(RUN_ID_PATTERN, run_id, flags=re.ASCII):
        raise ValueError(f"expected a run id like 'pipeline-20260101T000000Z-0123456789ab', got {run_id[:80]!r}")
    return PipelineKey(run_id.split("-", 1)[0])


def partition_of_run(run_id: RunId) -> tuple[str, str]:
    """Return the partition (pipeline and month of the cause) and the row of a run; raises ValueError likewise."""
    pipeline, rest = pipeline_of_run(run_id), run_id.split("-", 1)[1]
    return f"{pipeline}.{rest[:6]}", rest


def token_for(
    *,
    environment: str,
    run_id: RunId,
    attempt: int,
    job: JobKey,
    stages: Mapping[Stage, bool],
    parameters: Mapping[str, str],
    model_version: str | None,
    manifest_sha256: str,
) -> IdempotencyToken:
    """Return the name of one wanted attempt: 64 hex characters, the Jobs API's limit.

    Computed once and persisted before the call; after that the persisted one is the only authority, because
    a deployment in between may want something else under the same attempt.
    """
    if attempt < 1:
        raise ValueError(f"attempt must be at least 1, got {attempt}")
    wanted = json.dumps(
        {
            "environment": environment,
            "run_id": run_id,
            "attempt": attempt,
            "job": job,
            "stages": {stage.value: is_on for stage, is_on in stages.items()},
            "parameters": dict(parameters),
            "model_version": model_version,
            "manifest_sha256": manifest_sha256,
        },
        sort_keys=True,
        separators=(",", ":"),
    )
    return IdempotencyToken(digest("token", wanted))
