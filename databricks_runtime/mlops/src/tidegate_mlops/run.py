"""Runs one job run from its parameters to its announced end; what the notebooks call."""

import json
import logging
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from tidegate_mlops.checkpoints import Checkpoints
from tidegate_mlops.completion import RunFacts, completion_event, completion_event_id, finite
from tidegate_mlops.context import Findings, StageContext
from tidegate_mlops.environment import Environment
from tidegate_mlops.errors import InvalidEnvironmentError, RefusedFile, StageOrderError, reason_of, refused_files_of
from tidegate_mlops.frames import Frames
from tidegate_mlops.manifest import InputManifest, confirm_unchanged, read_manifest
from tidegate_mlops.parameters import Parameters, TrainingParameters, parameter_names, parse_parameters
from tidegate_mlops.plan import Plan, Stage, StageOutcome, StageResult
from tidegate_mlops.ports import ExperimentRun, Model, ModelCode, PreparedData
from tidegate_mlops.report import NotebookFormatter, StageReport
from tidegate_mlops.scoring import ScoringStages
from tidegate_mlops.telemetry import Telemetry
from tidegate_mlops.training import TrainingStages
from tidegate_mlops.wiring import DbUtils, Services, connect

__all__ = ["Run", "start"]

_LOGGER: Final = logging.getLogger("tidegate_mlops")
_FLAG_IS_OFF: Final = "its flag is 'false'"
DATABRICKS_RUN_ID: Final = "databricks_run_id"  # a task parameter the platform fills in; not part of what was decided


def start[P: PreparedData, M: Model](
    kind: Literal["training", "scoring"],
    code: ModelCode[P, M],
    *,
    dbutils: DbUtils,
    spark: Any,
    environment_file: str = "../environment.json",
    connect_to: Callable[[Environment, DbUtils], Services] = connect,
) -> "Run[P, M]":
    """Return the run that the notebook's widgets describe, checked and ready for its first stage.

    Fails before any work, and announces that, if the plan cannot be carried out. Wrong parameters or a wrong
    environment cannot be announced, as it is not known to whom; the control plane's reconciler does it.

    Args:
        kind: which job this notebook runs.
        code: the model's code.
        dbutils: the notebook's.
        spark: the notebook's.
        environment_file: written beside the notebooks' folder by the release.
        connect_to: makes the adapters; tests give their own.
    """
    parameters = parse_parameters(kind, {name: dbutils.widgets.get(name) for name in parameter_names(kind)})
    plan = Plan.of(parameters)
    environment = Environment.read(Path(environment_file))
    if (environment.environment, environment.release) != (parameters.environment, parameters.release):
        raise InvalidEnvironmentError(
            f"the run is for release {parameters.release!r} in {parameters.environment!r}, "
            f"this notebook belongs to {environment.release!r} in {environment.environment!r}"
        )
    platform_run_id = str(dbutils.widgets.get(DATABRICKS_RUN_ID))
    run = Run(
        parameters,
        plan,
        code,
        connect_to(environment, dbutils),
        spark=lambda: spark,
        databricks_run_id=int(platform_run_id) if platform_run_id.isdecimal() else None,
    )
    run.open()
    return run


class Run[P: PreparedData, M: Model]:
    """One attempt of one run: runs stages, and announces its end exactly once."""

    def __init__(
        self,
        parameters: Parameters,
        plan: Plan,
        code: ModelCode[P, M],
        services: Services,
        *,
        spark: Callable[[], Any],
        databricks_run_id: int | None,
    ) -> None:
        self._parameters = parameters
        self._plan = plan
        self._code = code
        self._services = services
        self._databricks_run_id = databricks_run_id
        # A Databricks retry repeats the token, so the token alone does not tell executions apart.
        self._execution = f"{parameters.token[:12]}-{uuid.uuid4().hex[:8]}"
        self._scratch = tempfile.TemporaryDirectory(prefix="tidegate-")
        self._checkpoints = Checkpoints(services.store, parameters, self._execution)
        self._frames = Frames(spark=spark, place=services.spark_place, code=code)
        self._findings = Findings(
            model={
                "name": parameters.model_name,
                "version": parameters.model_version or None,
                "mlflow_run_id": None,
                "is_champion": None,
            }
        )
        self._results: list[StageResult] = []
        self._manifest: InputManifest | None = None
        self._experiment_run: ExperimentRun | None = None
        self._stages: TrainingStages[P, M] | ScoringStages[P, M] | None = None
        self._telemetry = Telemetry(
            {
                "run_id": parameters.run_id,
                "attempt": parameters.attempt,
                "token": parameters.token,
                "pipeline": parameters.pipeline,
                "job": parameters.kind,
            },
            parameters.traceparent,
        )

    def open(self) -> None:
        """Prove that the run can be carried out; announces a failure and raises if not."""
        _log_to_the_notebook()
        try:
            self._configure_telemetry()
            self._telemetry.open(f"notebook {self._parameters.kind}")
            with self._telemetry.span("prepare"):
                self._prepare()
        except Exception as error:
            self._fail(None, reason_of(error), refused_files_of(error))
            raise

    def stage(self, name: str) -> StageReport:
        """Run a stage if its flag is on; a failure is announced before it is raised."""
        stage = Stage(name)
        self._plan.check_next(stage, tuple(result.name for result in self._results))
        if stage not in self._plan.enabled:
            return self._record(stage, StageOutcome.SKIPPED_BY_FLAG, 0.0, _FLAG_IS_OFF)
        if self._stages is None:
            raise StageOrderError(f"stage {name!r} was called on a run that has ended or was never opened")
        started = time.monotonic()
        try:
            with self._telemetry.span(f"stage {stage.value}", stage=stage.value):
                summary = self._stages.run(stage)
        except Exception as error:
            reason = reason_of(error)
            self._record(stage, StageOutcome.FAILED, time.monotonic() - started, reason)
            self._fail(stage, reason, refused_files_of(error))
            raise
        return self._record(stage, StageOutcome.RAN, time.monotonic() - started, summary)

    def finish(self) -> str:
        """Announce that the run completed and return the result for dbutils.notebook.exit."""
        if len(self._results) != len(self._plan.stages) or self._manifest is None or self._stages is None:
            missing = [stage.value for stage in self._plan.stages[len(self._results) :]]
            raise StageOrderError(
                f"the notebook finishes a run whose stages {missing} it has not called, or that has failed"
            )
        result = {
            "schema_version": 1,
            "run_id": self._parameters.run_id,
            "attempt": self._parameters.attempt,
            "status": "succeeded",
            "stages": [stage.to_json() for stage in self._results],
            "model": self._findings.model,
            "inputs": self._manifest.summary(),
            "outputs": self._findings.outputs,
            "metrics": finite(self._findings.metrics),
            "completion_event_id": completion_event_id(self._parameters, "completed"),
        }
        self._end("completed", None)
        return json.dumps(result)

    def _prepare(self) -> None:
        parameters, services = self._parameters, self._services
        self._experiment_run = services.start_experiment_run(
            f"{parameters.run_id}.{parameters.attempt}", self._experiment_tags()
        )
        self._manifest = read_manifest(services.store, parameters)
        self._plan.check_prerequisites(lambda stage: self._checkpoints.find(stage) is not None)
        confirm_unchanged(services.store, self._manifest.files)
        context = StageContext(
            code=self._code,
            store=services.store,
            frames=self._frames,
            checkpoints=self._checkpoints,
            experiment_run=self._experiment_run,
            registry=services.registry(),
            manifest=self._manifest,
            findings=self._findings,
            execution=self._execution,
            scratch=Path(self._scratch.name),
            now=services.now,
        )
        if isinstance(parameters, TrainingParameters):
            self._stages = TrainingStages(context, parameters)
        else:
            self._stages = ScoringStages(context, parameters)
        _LOGGER.info("run opened", extra={"run_id": parameters.run_id, "files": len(self._manifest.files)})

    def _configure_telemetry(self) -> None:
        connection_string = self._services.app_insights_connection_string
        if connection_string is not None:
            parameters = self._parameters
            self._telemetry.configure(connection_string, environment=parameters.environment, release=parameters.release)

    def _experiment_tags(self) -> dict[str, str]:
        parameters = self._parameters
        names = (
            "run_id",
            "attempt",
            "token",
            "pipeline",
            "kind",
            "release",
            "batch_id",
            "manifest_url",
            "manifest_sha256",
        )
        tags = {f"tidegate.{name}": str(getattr(parameters, name)) for name in names}
        tags["tidegate.traceparent"] = self._telemetry.traceparent()
        tags["tidegate.databricks_run_id"] = str(self._databricks_run_id or "")
        tags["tidegate.model_version"] = parameters.model_version
        return tags

    def _record(self, stage: Stage, outcome: StageOutcome, duration_s: float, reason: str | None) -> StageReport:
        result = StageResult(name=stage, outcome=outcome, duration_s=duration_s, reason=reason)
        self._results.append(result)
        extra = {
            "run_id": self._parameters.run_id,
            "token": self._parameters.token,
            "job": self._parameters.kind,
            "stage": stage.value,
            "outcome": outcome.value,
            "duration_s": round(duration_s, 3),
        }
        with self._telemetry.inside():
            _LOGGER.info("stage ended", extra=extra)
        figure, self._findings.figure = self._findings.figure, None
        return StageReport(result=result, figure=figure)

    def _fail(self, stage: Stage | None, reason: str, refused: tuple[RefusedFile, ...]) -> None:
        """Announce the failure; what follows the failed stage is skipped by it, whatever its flag."""
        done = len(self._results)
        because = f"stage {stage.value!r} failed" if stage else "the run could not start"
        for later in self._plan.stages[done:]:
            is_enabled = later in self._plan.enabled
            outcome = StageOutcome.SKIPPED_BY_UPSTREAM if is_enabled else StageOutcome.SKIPPED_BY_FLAG
            why = because if is_enabled else _FLAG_IS_OFF
            self._results.append(StageResult(name=later, outcome=outcome, duration_s=0.0, reason=why))
        self._findings.outputs = None  # what may have been published before is not this attempt's success
        self._end("failed", reason, refused)

    def _end(
        self, outcome: Literal["completed", "failed"], reason: str | None, refused: tuple[RefusedFile, ...] = ()
    ) -> None:
        """Close the experiment run, publish the event, send the telemetry: each whether or not the others work."""
        self._stages = None
        if self._experiment_run is not None:
            durations = {f"stage_{result.name.value}_s": result.duration_s for result in self._results}
            try:
                self._experiment_run.log(
                    metrics=durations, tags={"tidegate.outcome": outcome, "tidegate.reason": reason or ""}
                )
                self._experiment_run.end(is_success=outcome == "completed")
            except Exception:
                if outcome == "completed":
                    raise
                _LOGGER.exception("experiment run not closed")
        event = completion_event(
            self._parameters,
            RunFacts(
                databricks_run_id=self._databricks_run_id,
                model=self._findings.model,
                inputs=self._manifest.summary() if self._manifest else None,
                outputs=self._findings.outputs,
                stages=[replace(result) for result in self._results],
                metrics=self._findings.metrics,
                consignment=self._manifest.consignment if self._manifest else None,
                replaces=self._manifest.replaces if self._manifest else None,
                refused=refused,
            ),
            outcome=outcome,
            reason=reason,
            traceparent=self._telemetry.traceparent(),
            now=self._services.now(),
        )
        with self._telemetry.span("announce", outcome=outcome):
            is_delivered = self._services.announcer.announce(event)
            _LOGGER.info(
                "run ended", extra={"run_id": self._parameters.run_id, "outcome": outcome, "announced": is_delivered}
            )
        self._telemetry.close(outcome=outcome, reason=reason)
        with suppress(OSError):
            self._scratch.cleanup()


def _log_to_the_notebook() -> None:
    """Show this package's log lines under the notebook's cells, once."""
    if not _LOGGER.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(NotebookFormatter("%(asctime)s %(levelname)s %(message)s"))
        _LOGGER.addHandler(handler)
        _LOGGER.setLevel(logging.INFO)
        _LOGGER.propagate = False
