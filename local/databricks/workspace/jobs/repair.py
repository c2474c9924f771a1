"""Decides which tasks of an ended run run again."""

from dataclasses import dataclass

from local.databricks.workspace.jobs.errors import RepairRefusedError, RunActiveError
from local.databricks.workspace.jobs.runs import Overrides, Run
from local.databricks.workspace.jobs.settings import JobSpec
from local.databricks.workspace.jobs.states import Result

__all__ = ["RepairRequest", "tasks_to_repair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairRequest:
    """Which tasks of an ended run are to run again."""

    run_id: int
    tasks: tuple[str, ...] = ()
    all_failed: bool = False
    with_dependents: bool = False
    latest_repair_id: int | None = None
    overrides: Overrides | None = None


def _check_repair(run: Run, request: RepairRequest) -> None:
    if not run.state.is_terminal:
        raise RunActiveError(run.run_id)
    if bool(request.tasks) == request.all_failed:
        raise RepairRefusedError("Exactly one of rerun_tasks and rerun_all_failed_tasks must be given")
    latest = run.repairs[-1].repair_id if run.repairs else None
    if latest != request.latest_repair_id and run.repairs:
        raise RepairRefusedError("The latest repair ID needs to be provided in order to create a new repair")


def tasks_to_repair(run: Run, spec: JobSpec, request: RepairRequest) -> list[str]:
    """Return the keys of the tasks to run again, in the job's order.

    Raises:
        RunActiveError: The run has not ended.
        RepairRefusedError: The request is contradictory, names unknown tasks or an outdated repair.
    """
    _check_repair(run, request)
    known = [task.task_key for task in spec.tasks]
    unknown = [key for key in request.tasks if key not in known]
    if unknown:
        raise RepairRefusedError(f"Tasks {', '.join(unknown)} do not exist")
    latest = run.latest_attempts()
    chosen = set(request.tasks)
    if request.all_failed:
        chosen = {key for key in known if key not in latest or latest[key].state.result is not Result.SUCCESS}
    if request.with_dependents:
        for task in [*spec.tasks] * len(spec.tasks):
            if chosen & set(task.depends_on):
                chosen.add(task.task_key)
    if not chosen:
        raise RepairRefusedError("There are no tasks to run again")
    return [key for key in known if key in chosen]
