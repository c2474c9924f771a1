"""Trains: fires the retraining schedule's slot and follows the run that it starts."""

import time
import uuid
from datetime import UTC, datetime, timedelta

import requests
from azure.storage.blob import ContainerClient

from cli.configuration import read_pipelines
from cli.demo.context import Demo, DemoFailedError, until
from cli.demo.following import follow, require_outcome
from functions.core.ledger import Run
from functions.core.ledger_rows import model_version_of
from functions.core.model import Outcome, RunId, RunKind, SlotDue
from functions.core.pipelines import Pipeline, Schedule
from functions.core.tokens import run_id_of_slot
from local.demo_data.files import DemoFile

__all__ = ["ask_for_run", "train", "upload_history"]

_TIMEOUT_S = 30.0
_RUN_S = 240.0
_SETTLED_S = 4.0  # a repeated slot's invocation is over by then


def upload_history(demo: Demo, container: ContainerClient, files: list[DemoFile]) -> None:
    """Upload the months to train on, those that are not there yet."""
    for file in files:
        blob = container.get_blob_client(file.path)
        if not blob.exists() or blob.get_blob_properties().size != len(file.content):
            blob.upload_blob(file.content, overwrite=True)
    rows = sum(file.rows for file in files)
    demo.good(f"{len(files)} months of history are in {container.container_name}: {rows:,} flights with their delays")


def train(demo: Demo) -> None:
    """Fire the slot; if an earlier demo's run has it, show that nothing starts, and ask for a run over HTTP.

    Raises:
        DemoFailedError: No model was made champion.
    """
    pipeline, schedule = _schedule()
    slot = schedule.timetable.last_until(datetime.now(UTC) + timedelta(seconds=2))
    if slot is None:
        raise DemoFailedError(f"the schedule {schedule.name} has no slot yet")
    run_id = run_id_of_slot(SlotDue(pipeline=pipeline.key, schedule=schedule.name, slot=slot, is_past_due=True))
    before = demo.ledger.run(run_id)
    _fire(demo, schedule)
    demo.say(f"fired the schedule {schedule.name} ({schedule.cron.expression}), slot {slot:%Y-%m-%d %H:%M} UTC")
    if before is not None:
        _show_that_nothing_started(demo, before)
        run_id = ask_for_run(demo, {"pipeline": pipeline.key})
    else:
        logs = ("functions_host",)
        until(lambda: demo.ledger.run(run_id), what=f"run {run_id} of the slot", timeout_s=_TIMEOUT_S, logs=logs)
    run = follow(demo, run_id, timeout_s=_RUN_S)
    require_outcome(demo, run, Outcome.COMPLETED)
    demo.training = run
    _require_champion(demo, run, pipeline)


def ask_for_run(demo: Demo, body: dict[str, object]) -> RunId:
    """Ask for a run over HTTP and check that its status URL knows it; return its id.

    Raises:
        DemoFailedError: The answer is not as documented.
    """
    headers = {"x-functions-key": demo.settings.function_key, "Idempotency-Key": f"demo-{uuid.uuid4()}"}
    url = f"{demo.settings.url('functions')}/api/runs"
    answer = requests.post(url, json=body, headers=headers, timeout=_TIMEOUT_S)
    if answer.status_code != 202:  # noqa: PLR2004 - Accepted
        raise DemoFailedError(f"POST /api/runs answered {answer.status_code}: {answer.text[:500]}")
    content = answer.json()
    status_url = str(content.get("status_url") or answer.headers.get("Location", ""))
    demo.good(f"POST /api/runs answered 202: run {content['id']}")
    status = requests.get(status_url, headers=headers, timeout=_TIMEOUT_S)
    if status.status_code != 200 or status.json().get("id") != content["id"]:  # noqa: PLR2004 - OK
        raise DemoFailedError(f"{status_url} answered {status.status_code}: {status.text[:500]}")
    demo.good(f"its status URL answers: {status_url}")
    return RunId(content["id"])


def _schedule() -> tuple[Pipeline, Schedule]:
    for pipeline in read_pipelines().pipelines:
        if pipeline.kind is RunKind.TRAINING and pipeline.schedules:
            return pipeline, pipeline.schedules[0]
    raise DemoFailedError("pipelines.toml has no training pipeline with a schedule", logs=())


def _fire(demo: Demo, schedule: Schedule) -> None:
    """Fire the timer now, through the host's administration, as one would on Azure."""
    admin = f"{demo.settings.url('functions')}/admin/functions"
    headers = {"x-functions-key": demo.settings.master_key}
    functions = requests.get(admin, headers=headers, timeout=_TIMEOUT_S).json()
    timers = [function["name"] for function in functions if function["name"].endswith(f"_{schedule.name}")]
    if len(timers) != 1:
        raise DemoFailedError(f"expected one timer for the schedule {schedule.name}, found {timers}")
    answer = requests.post(f"{admin}/{timers[0]}", json={"input": ""}, headers=headers, timeout=_TIMEOUT_S)
    if answer.status_code != 202:  # noqa: PLR2004 - Accepted
        raise DemoFailedError(f"firing {timers[0]} answered {answer.status_code}: {answer.text[:500]}")


def _show_that_nothing_started(demo: Demo, before: Run) -> None:
    """Show that the slot's run, of an earlier demo, stays the only one; one that was left unfinished ends first."""

    def ended() -> Run | None:
        run = demo.ledger.run(before.id)
        return run if run is not None and run.is_story_over else None

    if not before.is_story_over:
        demo.say(f"the slot's run {before.id} is still under way from an earlier demo; waiting for it")
        before = until(
            ended, what=f"the end of run {before.id}", timeout_s=_RUN_S, logs=("functions_host", "workspace")
        )
    time.sleep(_SETTLED_S)
    after = demo.ledger.run(before.id)
    if after is None or (after.attempt, after.databricks_run_id) != (before.attempt, before.databricks_run_id):
        raise DemoFailedError(f"the slot's run {before.id} had ended, and firing the slot again changed it")
    demo.good(f"the slot had its run already ({before.id}); firing it again started nothing")


def _require_champion(demo: Demo, run: Run, pipeline: Pipeline) -> None:
    """Ask the registry itself which version the alias names, and say what the gate did."""
    version = model_version_of(run)
    completion = run.completion
    is_champion = completion is not None and completion.model is not None and bool(completion.model.is_champion)
    champion = demo.champion(pipeline.model_name, pipeline.alias)
    if version is None or champion is None:
        raise DemoFailedError(f"no version of {pipeline.model_name} is {pipeline.alias}", logs=("workspace", "mlflow"))
    if is_champion and champion != version:
        raise DemoFailedError(
            f"version {version} says it is {pipeline.alias}, but the registry says version {champion}"
        )
    if is_champion:
        demo.good(f"{pipeline.model_name} version {version} is the {pipeline.alias}")
    else:
        demo.good(f"version {version} is registered; the gate kept version {champion} as {pipeline.alias}")
