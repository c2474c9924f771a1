"""Generates the domain's values for property tests."""

import string
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from functions.core.completion import CompletionEvent
from functions.core.held import BUDGET_REASONS, HeldEvent
from functions.core.ledger import Arrival, Attempt, Cause, CauseKind, Change, Run
from functions.core.lineage import FileRef, InputsRef, ModelRef, OutputsRef, RefusedFile, RefusedRef, StageResult
from functions.core.manifest import ManifestFile, ManifestPointer, manifest_of
from functions.core.model import (
    ArrivalId,
    ArrivalSource,
    ArrivalState,
    BatchId,
    BlobCreated,
    BlobVersion,
    DatabricksRunId,
    IdempotencyToken,
    JobKey,
    ModelSignal,
    Outcome,
    PipelineKey,
    RunId,
    RunKind,
    RunRequested,
    RunState,
    SignalType,
    SlotDue,
    Stage,
    StageOutcome,
)
from functions.core.parameters import STAGES_OF_KIND, defaults_of
from functions.core.setback import Setback
from functions.core.stalled import StalledEvent
from functions.core.tokens import arrival_id_of, run_id_of
from functions.core.work import WorkItem, WorkKind

# Any text that UTF-8 can write: quotes, controls, "__", astral characters and right-to-left marks included.
texts = st.text(st.characters(codec="utf-8"), max_size=40)
instants = st.integers(0, 15 * 365 * 86_400 * 10**6).map(
    lambda microseconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
)
names = st.from_regex(r"[a-z][a-z0-9_]{0,11}", fullmatch=True)
pipeline_keys = names.map(PipelineKey)
sha256s = st.text("0123456789abcdef", min_size=64, max_size=64)
traceparents = st.builds(
    lambda trace, span: f"00-{trace}-{span}-01",
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.text("0123456789abcdef", min_size=16, max_size=16),
)
accounts = st.text(string.ascii_lowercase + string.digits, min_size=3, max_size=24)
containers = st.from_regex(r"[a-z0-9](-?[a-z0-9]){2,20}", fullmatch=True)
paths = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
etags = st.from_regex(r"0x8D[0-9A-F]{4,12}", fullmatch=True)
blob_urls = st.builds(
    lambda account, container, name: f"https://{account}.blob.core.windows.net/{container}/{name}",
    accounts,
    containers,
    st.from_regex(r"[A-Za-z0-9_=/%.-]{1,40}", fullmatch=True),
)
databricks_run_ids = st.integers(1, 2**62).map(DatabricksRunId)
run_ids = st.builds(run_id_of, pipeline_keys, instants, texts)
tokens = sha256s.map(IdempotencyToken)
versions = st.integers(1, 10**6).map(str)
model_names = st.from_regex(r"[a-z_]{1,8}\.[a-z_]{1,8}\.[a-z_]{1,8}", fullmatch=True)


def blob_versions(**fixed: Any) -> st.SearchStrategy[BlobVersion]:
    """Return blob versions; keyword arguments are strategies that replace a field's."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        "account": accounts,
        "container": containers,
        "path": paths,
        "etag": etags,
        "size_bytes": st.integers(1, 2**45),
        "sequencer": st.none() | st.text("0123456789abcdef", min_size=1, max_size=50),
    }
    return st.builds(BlobVersion, **(fields | fixed))


def blob_events(**fixed: Any) -> st.SearchStrategy[BlobCreated]:
    """Return events of committed blobs; keyword arguments are strategies that replace a field's."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        "event_id": st.uuids().map(str),
        "event_time": instants,
        "api": st.sampled_from(["PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose"]),
        "blob": blob_versions(),
        "content_type": st.sampled_from(["", "application/octet-stream", "text/csv; charset=utf-8"]),
        "traceparent": st.none() | traceparents,
    }
    return st.builds(BlobCreated, **(fields | fixed))


slots = st.builds(SlotDue, pipeline=pipeline_keys, schedule=names, slot=instants, is_past_due=st.booleans())
run_requests = st.builds(
    RunRequested,
    pipeline=pipeline_keys,
    request_id=st.from_regex(r"[A-Za-z0-9_.:-]{1,40}", fullmatch=True),
    requested_at=instants,
)

changes = st.builds(Change, state=names, at=instants, note=texts)
pointers = st.builds(ManifestPointer, url=blob_urls, sha256=sha256s)
causes = st.builds(Cause, kind=st.sampled_from(CauseKind), name=texts, at=instants)
attempts_over = st.builds(
    Attempt,
    number=st.integers(1, 99),
    token=st.none() | tokens,
    databricks_run_id=st.none() | databricks_run_ids,
    outcome=st.none() | st.sampled_from(Outcome),
    reason=st.none() | texts,
    ended_at=instants,
)
stage_results = st.builds(
    StageResult,
    name=st.sampled_from(Stage),
    outcome=st.sampled_from(StageOutcome),
    duration_s=st.floats(0, 1e6),
    reason=st.none() | texts,
)
models = st.builds(
    ModelRef,
    name=model_names,
    version=st.none() | versions,
    mlflow_run_id=st.none() | texts,
    is_champion=st.none() | st.booleans(),
)
batch_ids = st.text("0123456789abcdef", min_size=16, max_size=16).map(BatchId)
inputs = st.builds(
    InputsRef,
    manifest_url=blob_urls,
    manifest_sha256=sha256s,
    batch_id=batch_ids,
    file_count=st.integers(0, 50_000),
    files=st.lists(st.builds(FileRef, url=blob_urls, etag=etags), max_size=3).map(tuple),
)
refusals = st.builds(
    RefusedRef,
    file_count=st.integers(1, 50_000),
    files=st.lists(
        st.builds(RefusedFile, url=blob_urls, etag=etags, reason=texts.map(lambda text: text[:100])), max_size=3
    ).map(tuple),
    others=st.lists(st.from_regex("[0-9a-f]{12}", fullmatch=True), max_size=3).map(tuple),
)
counts = st.integers(0, 10**9)
outputs = st.builds(
    OutputsRef,
    scores_url=blob_urls,
    manifest_url=blob_urls,
    manifest_sha256=sha256s,
    rows_in=counts,
    rows_scored=counts,
    rows_quarantined=counts,
)


def completion_events(**fixed: Any) -> st.SearchStrategy[CompletionEvent]:
    """Return completion events; keyword arguments are strategies that replace a field's."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        "run_id": run_ids,
        "attempt": st.integers(1, 99),
        "outcome": st.sampled_from(Outcome),
        "reason": st.none() | texts,
        "pipeline": pipeline_keys,
        "kind": st.sampled_from(RunKind),
        "environment": st.from_regex(r"[a-z][a-z0-9]{0,15}", fullmatch=True),
        "token": tokens,
        "databricks_run_id": st.none() | databricks_run_ids,
        "time": instants,
        "announced_by": st.sampled_from(["notebook", "control_plane"]),
        "model": st.none() | models,
        "inputs": st.none() | inputs,
        "outputs": st.none() | outputs,
        "stages": st.lists(stage_results, max_size=3).map(tuple),
        "metrics": st.dictionaries(texts, st.floats(-1e12, 1e12), max_size=3),
        "consignment": texts,
        "replaces": st.none() | run_ids,
        "refused": st.none() | refusals,
        "traceparent": st.just("") | traceparents,
    }
    return st.builds(CompletionEvent, **(fields | fixed))


stalled_events = st.builds(
    StalledEvent,
    run_id=run_ids,
    attempt=st.integers(1, 99),
    pipeline=pipeline_keys,
    kind=st.sampled_from(RunKind),
    environment=st.from_regex(r"[a-z][a-z0-9]{0,15}", fullmatch=True),
    state=st.sampled_from([state for state in RunState if state is not RunState.ENDED]),
    since=instants,
    stalled_after_minutes=st.integers(1, 44_640),
    databricks_run_id=st.none() | databricks_run_ids,
    run_page_url=texts,
    time=instants,
    traceparent=st.just("") | traceparents,
)


def model_signals(**fixed: Any) -> st.SearchStrategy[ModelSignal]:
    """Return signals about a model; keyword arguments are strategies that replace a field's."""
    fields: dict[str, st.SearchStrategy[Any]] = {
        "event_id": st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
        "source": st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
        "type": st.sampled_from(SignalType),
        "time": st.just(datetime(2035, 12, 31, tzinfo=UTC)),
        "environment": st.from_regex(r"[a-z][a-z0-9]{0,15}", fullmatch=True),
        "model_name": model_names,
        "model_version": st.none() | versions,
        "window_start": instants,
        "window_end": st.just(datetime(2036, 1, 1, tzinfo=UTC)),
        "metrics": st.dictionaries(
            st.from_regex(r"[A-Za-z0-9_.:/-]{1,20}", fullmatch=True), st.floats(-1e9, 1e9), max_size=3
        ),
        "reason": st.none() | texts,
        "traceparent": st.none() | traceparents,
    }
    return st.builds(ModelSignal, **(fields | fixed))


held_events = st.builds(
    HeldEvent,
    pipeline=pipeline_keys,
    environment=st.from_regex(r"[a-z][a-z0-9]{0,15}", fullmatch=True),
    reason=st.sampled_from(sorted(BUDGET_REASONS)),
    day=st.dates(date(2020, 1, 1), date(2040, 1, 1)),
    begun=st.integers(0, 10**6),
    max_runs_per_day=st.integers(0, 10**6),
    time=instants,
    traceparent=st.just("") | traceparents,
)


@st.composite
def arrivals(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Arrival:
    """Return arrivals in any state that can be."""
    blob = draw(blob_versions())
    state = draw(st.sampled_from(ArrivalState))
    is_assigned = state in {ArrivalState.ASSIGNED, ArrivalState.SCORED}
    is_accepted = is_assigned or state is ArrivalState.HELD
    return Arrival(
        id=arrival_id_of(blob),
        blob=blob,
        state=state,
        event_id=draw(texts),
        event_time=draw(instants),
        api=draw(texts),
        content_type=draw(texts),
        recorded_at=draw(instants),
        updated_at=draw(instants),
        pipeline=draw(pipeline_keys if is_accepted else st.none() | pipeline_keys),
        route=draw(texts),
        reason=draw(st.none() | texts),
        run_id=draw(run_ids if is_assigned else st.none() | run_ids),
        deliveries=draw(st.integers(1, 10**6)),
        traceparent=draw(st.none() | traceparents),
        config_version=draw(texts),
        source=draw(st.sampled_from(ArrivalSource)),
        consignment=draw(texts),
        contradictions=tuple(draw(st.lists(texts, max_size=2))),
        history=tuple(draw(st.lists(changes, max_size=3))),
    )


setbacks = st.builds(
    Setback, kind=names, error=texts, at=instants, tries=st.integers(1, 600), wait_s=st.integers(0, 3601)
)


@st.composite
def runs(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Run:
    """Return runs whose fields are right one by one, in any state."""
    kind = draw(st.sampled_from(RunKind))
    state = draw(st.sampled_from(RunState))
    run_id: RunId = draw(run_ids)
    maybe_instants = st.none() | instants
    outcome = draw(st.sampled_from(Outcome)) if state is RunState.ENDED else None
    return Run(
        id=run_id,
        pipeline=PipelineKey(run_id.split("-", 1)[0]),
        kind=kind,
        job=JobKey(draw(names)),
        environment="test",
        state=state,
        cause=draw(causes),
        stages={stage: draw(st.booleans()) for stage in STAGES_OF_KIND[kind]},
        parameters=defaults_of(kind),
        model_name=draw(model_names),
        model_version=draw(versions) if kind is RunKind.SCORING else None,
        batch_id=draw(batch_ids),
        output_url=draw(st.just("") | blob_urls),
        created_at=draw(instants),
        updated_at=draw(instants),
        attempt=draw(st.integers(1, 99)),
        max_attempts=draw(st.integers(1, 20)),
        arrivals=tuple(draw(st.lists(sha256s.map(ArrivalId), max_size=3))),
        arrival_count=draw(st.integers(0, 50_000)),
        file_count=draw(st.integers(0, 50_000)),
        manifest=draw(st.none() | pointers),
        traceparent=draw(st.none() | traceparents),
        config_version=draw(texts),
        consignment=draw(texts),
        replaces=draw(st.none() | run_ids),
        token=draw(st.none() | tokens),
        databricks_run_id=draw(st.none() | databricks_run_ids),
        run_page_url=draw(texts),
        outcome=outcome,
        release_owed=outcome is Outcome.FAILED and draw(st.booleans()),
        reason=draw(st.none() | texts),
        completion=draw(st.none() | completion_events()),
        verdict=draw(st.none() | completion_events()),
        published_at=draw(maybe_instants),
        stall=draw(st.none() | stalled_events),
        stall_published_at=draw(maybe_instants),
        setback=draw(st.none() | setbacks),
        submitted_at=draw(maybe_instants),
        finished_at=draw(maybe_instants),
        attempts=tuple(draw(st.lists(attempts_over, max_size=2))),
        history=tuple(draw(st.lists(changes, max_size=3))),
    )


manifest_files = st.builds(
    lambda blob, is_arrival: ManifestFile(blob=blob, arrival_id=arrival_id_of(blob) if is_arrival else None),
    blob_versions(container=st.from_regex(r"[a-z]{3,9}", fullmatch=True)),
    st.booleans(),
)
manifests = st.builds(
    manifest_of,
    run_id=run_ids,
    pipeline=pipeline_keys,
    kind=st.sampled_from(RunKind),
    created_at=instants,
    files=st.lists(manifest_files, max_size=4).map(tuple),
)
work_items = st.builds(
    lambda pipeline, run_id, tries, traceparent, consignment: WorkItem(
        kind=WorkKind.CLOSE_BATCH if run_id is None else WorkKind.ADVANCE_RUN,
        pipeline=pipeline,
        run_id=run_id,
        tries=tries,
        traceparent=traceparent,
        consignment=consignment,
    ),
    pipeline_keys,
    st.none() | run_ids,
    st.integers(0, 100),
    st.none() | traceparents,
    texts,
)
