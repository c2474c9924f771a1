"""Fires the schedules of `pipelines.toml`, the reconciler and the sweep."""

from datetime import timedelta

import azure.functions as func

from functions.core.model import PipelineKey
from functions.core.pipelines import Pipelines
from functions.settings import Settings
from functions.wiring import control_plane, reconcile_schedule

__all__ = ["timer_functions"]


def timer_functions(settings: Settings, pipelines: Pipelines) -> func.Blueprint:
    """Return one timer a schedule in UTC, the reconciler's and the sweep's."""
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call] # untyped in azure-functions
    for pipeline in pipelines.pipelines:
        for schedule in pipeline.schedules:
            if not schedule.has_timer:
                continue  # the reconciler fires it: timers know UTC only (docs/decisions/0045)
            _add_schedule(blueprint, pipeline.key, schedule.name, schedule.cron.expression)

    @blueprint.function_name("reconciler")
    @blueprint.timer_trigger(arg_name="timer", schedule=reconcile_schedule(settings), use_monitor=False)
    def reconciler(timer: func.TimerRequest) -> None:
        """Look after what nobody else comes back for."""
        del timer  # the ledger says what is to be done, not the tick
        from functions.services.reconcile import reconcile

        reconcile(control_plane())

    @blueprint.function_name("sweep")
    @blueprint.timer_trigger(arg_name="timer", schedule=settings.sweep_schedule, use_monitor=False)
    def sweep(timer: func.TimerRequest) -> None:
        """Look for blobs that no event announced."""
        del timer  # the ledger says where the last pass stopped
        from functions.services.sweep import sweep as look

        look(control_plane(), grace=timedelta(seconds=settings.sweep_grace_s))

    return blueprint


def _add_schedule(blueprint: func.Blueprint, pipeline: PipelineKey, schedule: str, expression: str) -> None:
    @blueprint.function_name(f"schedule_{pipeline}_{schedule}")
    @blueprint.timer_trigger(arg_name="timer", schedule=expression, use_monitor=True)
    def fire(timer: func.TimerRequest) -> None:
        """Deal with the schedule's slot; which one follows from the schedule, not from the tick."""
        del timer
        from functions.services.schedule import fire_schedule

        fire_schedule(control_plane(), pipeline, schedule)
