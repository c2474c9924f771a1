"""Builds a whole control plane in memory, with a workspace that behaves as notebooks would."""

import base64
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from functions.adapters.table_operations import TableOperations
from functions.adapters.table_signals import TableSignals
from functions.core.completion import CompletionEvent
from functions.core.databricks_states import status_of
from functions.core.ledger import Arrival, Run
from functions.core.ledger_rows import arrival_from_row, run_from_row
from functions.core.lineage import InputsRef, ModelRef
from functions.core.manifest import InputManifest
from functions.core.model import (
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
)
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from functions.core.reading import to_iso
from functions.core.scores import ScoresManifest
from functions.core.tokens import arrival_id_of
from functions.core.turnstile import Turnstile
from functions.core.turnstile_rows import turnstile_from_row
from functions.services.arrive import arrive
from functions.services.complete import complete
from functions.services.dispatch import dispatch
from functions.services.plane import ControlPlane
from functions.services.reconcile import reconcile
from tests.support.in_memory import (
    DatabricksRun,
    Faults,
    FixedClock,
    InMemoryInputs,
    InMemoryManifests,
    InMemoryPublisher,
    InMemoryQuarantine,
    InMemoryQueue,
    InMemoryTables,
    InMemoryTelemetry,
    InMemoryWorkspace,
    make_ledger,
)

__all__ = ["ACCOUNT", "MODEL", "PIPELINES_TOML", "World", "blob_message", "make_blob"]

ACCOUNT = "tidegatelocal"
MODEL = "main.tidegate.flight_delay"
SCORING = PipelineKey("flight_delay_scoring")
TRAINING = PipelineKey("flight_delay_training")

PIPELINES_TOML = """
schema = 1

[pipelines.flight_delay_training]
kind = "training"
job = "training"
model = "main.tidegate.flight_delay"
alias = "champion"
callers_may_set = ["learning_rate"]
concurrency = { policy = "queue" }
retry = { max_attempts = 2 }

[pipelines.flight_delay_training.training_data]
container = "input"
prefix = "flights/history/"
glob = "**/*.parquet"

[[pipelines.flight_delay_training.schedules]]
name = "monthly"
cron = "0 0 3 1 * *"
missed = "latest"

[pipelines.flight_delay_scoring]
kind = "scoring"
job = "scoring"
model = "main.tidegate.flight_delay"
alias = "champion"
batching = { quiet_seconds = QUIET, max_wait_seconds = MAX_WAIT, max_files = MAX_FILES }
concurrency = { policy = "POLICY", max_active = MAX_ACTIVE }
retry = { max_attempts = 3 }
output = { container = "scores" }

[[pipelines.flight_delay_scoring.routes]]
name = "new_flights"
container = "input"
prefix = "flights/new/"
glob = "*.parquet"
"""


def make_pipelines(
    *,
    quiet: int = 0,
    max_wait: int = 0,
    max_files: int = 1000,
    policy: str = "parallel",
    max_active: int = 100,
    budget: int | None = None,
    limits: str = "max_in_flight = 1000, max_starts_per_second = 20",
    glob: str = "*.parquet",
    readiness: str = 'kind = "none"',
) -> Pipelines:
    """Return the test pipelines with another window, policy, budget and so on for scoring, and limits of all."""
    text = PIPELINES_TOML.replace("schema = 1\n", f"schema = 1\nlimits = {{ {limits} }}\n")
    text = text.replace('\nglob = "*.parquet"', f'\nglob = "{glob}"')
    text = text.replace("batching = {", f"readiness = {{ {readiness} }}\nbatching = {{")
    if budget is not None:
        output = 'output = { container = "scores" }'
        text = text.replace(output, f"budget = {{ max_runs_per_day = {budget} }}\n{output}")
    if policy != "parallel":
        text = text.replace(", max_active = MAX_ACTIVE", "")
    for name, value in {
        "QUIET": quiet,
        "MAX_WAIT": max_wait,
        "MAX_FILES": max_files,
        "POLICY": policy,
        "MAX_ACTIVE": max_active,
    }.items():
        text = text.replace(name, str(value))
    return parse_pipelines(text.encode(), file="pipelines.toml", known_jobs=[JobKey("training"), JobKey("scoring")])


def make_blob(name: str = "2013-07.parquet", *, etag: str = "0x1", sequencer: str | None = None) -> BlobVersion:
    """Return a blob that the scoring pipeline's route wants."""
    return BlobVersion(
        account=ACCOUNT,
        container="input",
        path=f"flights/new/{name}",
        etag=etag,
        size_bytes=1000,
        sequencer=sequencer,
    )


def blob_message(
    blob: BlobVersion, *, at: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC), api: str = "PutBlob"
) -> str:
    """Return the queue message that Event Grid makes of a created blob, in its own schema and base64."""
    resource = f"/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{blob.account}"
    data = {
        "api": api,
        "eTag": blob.etag,
        "contentType": "application/octet-stream",
        "contentLength": blob.size_bytes,
        "blobType": "BlockBlob",
        "url": blob.url,
    }
    if blob.sequencer is not None:
        data["sequencer"] = blob.sequencer
    event = {
        "topic": resource,
        "subject": f"/blobServices/default/containers/{blob.container}/blobs/{blob.path}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "id": f"event-{arrival_id_of(blob)}",
        "data": data,
        "dataVersion": "",
        "metadataVersion": "1",
        "eventTime": to_iso(at),
    }
    return base64.b64encode(json.dumps(event).encode()).decode()


@dataclass
class World:
    """A control plane in memory, its queues, and a workspace whose runs finish when they are told to."""

    pipelines: Pipelines = field(default_factory=make_pipelines)
    faults: Faults = field(default_factory=Faults)
    model_version: str | None = "7"

    def __post_init__(self) -> None:
        self.clock = FixedClock()
        self.tables = InMemoryTables(self.faults)
        self.ledger = make_ledger(self.tables)
        self.operations = TableOperations(self.tables)
        self.signals = TableSignals(self.tables)
        self.queue = InMemoryQueue(self.clock, self.faults)
        self.workspace = InMemoryWorkspace(faults=self.faults)
        self.inputs = InMemoryInputs(ACCOUNT, self.faults)
        self.manifests = InMemoryManifests(ACCOUNT, faults=self.faults)
        self.publisher = InMemoryPublisher(self.faults)
        self.quarantine = InMemoryQuarantine(self.faults)
        self.telemetry = InMemoryTelemetry()
        if self.model_version is not None:
            self.workspace.models[MODEL, "champion"] = self.model_version
        self.plane = self.make_plane()

    def make_plane(self) -> ControlPlane:
        """Return a control plane as another process would have it: same outside, no memory."""
        return ControlPlane(
            environment="local",
            account=ACCOUNT,
            pipelines=self.pipelines,
            ledger=self.ledger,
            operations=self.operations,
            signals=self.signals,
            submitter=self.workspace,
            models=self.workspace,
            inputs=self.inputs,
            manifests=self.manifests,
            queue=self.queue,
            publisher=self.publisher,
            quarantine=self.quarantine,
            telemetry=self.telemetry,
            clock=self.clock,
        )

    def deliver(self, blob: BlobVersion, *, at: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        """Deliver the event of a created blob once."""
        arrive(self.plane, blob_message(blob, at=at))

    def arrival(self, blob: BlobVersion) -> Arrival:
        """Return what the ledger says of a blob."""
        return next(arrival for arrival in self.arrivals() if arrival.id == arrival_id_of(blob))

    def arrivals(self) -> list[Arrival]:
        """Return every arrival with its deliveries counted, in no particular order."""
        found: list[Arrival] = []
        for (partition, key), (values, _) in self.tables.rows["arrivals"].items():
            arrival = arrival_from_row(values)
            again = [row for of, row in self.tables.rows["redeliveries"] if of == partition and row.startswith(key)]
            found.append(replace(arrival, deliveries=arrival.deliveries + len(again)))
        return found

    def runs(self) -> list[Run]:
        """Return every run, oldest cause first."""
        rows = [run_from_row(values) for values, _ in self.tables.rows["runs"].values()]
        return sorted(rows, key=lambda run: (run.cause.at, run.id))

    def turnstile(self) -> Turnstile:
        """Return the turnstile; looks without being seen by the faults."""
        return turnstile_from_row(self.tables.rows["marks"]["turnstile", "turnstile"][0])

    def work(self, *, steps: int = 200) -> None:
        """Do queued work until none is visible."""
        for _ in range(steps):
            item = self.queue.take()
            if item is None:
                return
            dispatch(self.plane, item.to_json())
        raise AssertionError(f"still work after {steps} steps: {self.queue.messages[:3]}")

    def settle_submissions(self, *, rounds: int = 40) -> None:
        """Let time pass until nothing is held and every run is at Databricks."""
        for _ in range(rounds):
            self.work()
            reconcile(self.plane)
            self.work()
            if not self.tables.rows["pending"] and all(
                run.state not in {RunState.DECIDED, RunState.SUBMITTING} for run in self.runs()
            ):
                return
            self.clock.advance(timedelta(seconds=20))
        raise AssertionError(f"not submitted after {rounds} rounds: {[run.state for run in self.runs()]}")

    def settle(self, *, rounds: int = 40) -> None:
        """Let time pass, with the reconciler and the dispatcher at work, until every story is over."""
        for _ in range(rounds):
            self.work()
            reconcile(self.plane)
            self.work()
            if self.is_quiet():
                return
            self.clock.advance(timedelta(seconds=20))
        raise AssertionError(f"not settled after {rounds} rounds: {[run.state for run in self.runs()]}")

    def is_quiet(self) -> bool:
        """Whether nothing is left to do; looks without being seen by the faults."""
        is_indexed = self.tables.rows["pending"] or self.tables.rows["open"]
        return not is_indexed and self.queue.next_visible_at() is None

    def finish(self, run: DatabricksRun, *, outcome: Outcome = Outcome.COMPLETED, reports: bool = True) -> None:
        """Have a run do what its notebook does: publish scores, report, end."""
        if outcome is Outcome.COMPLETED and run.parameters["kind"] == "scoring" and self.scores_of(run) is None:
            self.publish_scores(run)
        if reports:
            self.report(run, outcome)
        is_completed = outcome is Outcome.COMPLETED
        run.status = status_of(
            "TERMINATED",
            "SUCCESS" if is_completed else "FAILED",
            "SUCCESS" if is_completed else "RUN_EXECUTION_ERROR",
        )

    def report(self, run: DatabricksRun, outcome: Outcome) -> None:
        """Deliver the completion event that a notebook publishes."""
        complete(self.plane, self.completion_of(run, outcome).to_json())

    def completion_of(self, run: DatabricksRun, outcome: Outcome) -> CompletionEvent:
        """Return the completion event of a run as its notebook makes it."""
        values = run.parameters
        scores = self.scores_of(run)
        return CompletionEvent(
            run_id=RunId(values["run_id"]),
            attempt=int(values["attempt"]),
            outcome=outcome,
            reason=None if outcome is Outcome.COMPLETED else "the notebook raised",
            pipeline=PipelineKey(values["pipeline"]),
            kind=RunKind(values["kind"]),
            environment=values["environment"],
            token=IdempotencyToken(values["token"]),
            databricks_run_id=run.id,
            time=self.clock.now(),
            announced_by="notebook",
            model=ModelRef(name=values["model_name"], version=values["model_version"] or "8"),
            outputs=None if scores is None else scores.outputs(values["output_url"]),
            traceparent=values["traceparent"],
        )

    def scores_of(self, run: DatabricksRun) -> ScoresManifest | None:
        """Return the manifest that the run has published, or None."""
        found = self.manifests.blobs.get(f"{run.parameters['output_url']}/_manifest.json")
        return None if found is None else ScoresManifest.from_bytes(found)

    def publish_scores(self, run: DatabricksRun, **changes: object) -> None:
        """Write the manifest of a run's scores, with some of its facts changed."""
        values = run.parameters
        inputs = InputManifest.from_bytes(self.manifests.blobs[values["manifest_url"]])
        model = {"name": MODEL, "version": values["model_version"], "mlflow_run_id": None, "is_champion": None}
        document: dict[str, object] = {
            "schema_version": 1,
            "run_id": values["run_id"],
            "attempt": int(values["attempt"]),
            "pipeline": values["pipeline"],
            "batch_id": values["batch_id"],
            "created_at": to_iso(self.clock.now()),
            "model": model,
            "inputs": InputsRef(
                manifest_url=values["manifest_url"],
                manifest_sha256=values["manifest_sha256"],
                batch_id=BatchId(values["batch_id"]),
                file_count=len(inputs.files),
            ).to_fields(),
            "columns": [{"name": "delay", "type": "double", "nullable": False}],
            "score_column": "delay",
            "rows_in": 10,
            "rows_scored": 9,
            "rows_quarantined": 1,
            "null_scores": 0,
            "files": [{"url": f"{values['output_url']}/part-0.parquet", "etag": "0x9", "size_bytes": 5}],
            "quarantine_files": [],
        }
        url = f"{values['output_url']}/_manifest.json"
        self.manifests.blobs[url] = json.dumps({**document, **changes}).encode()

    def databricks_runs(self) -> list[DatabricksRun]:
        """Return the workspace's runs, oldest first."""
        return [self.workspace.runs[key] for key in sorted(self.workspace.runs)]

    def end_databricks_run(self, run_id: DatabricksRunId, life_cycle: str, result: str = "", code: str = "") -> None:
        """End a run without its notebook having said anything."""
        self.workspace.runs[run_id].status = status_of(life_cycle, result, code)
