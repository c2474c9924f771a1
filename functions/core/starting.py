"""Applies the rules that every wanted run must satisfy: its plan, its model, its pipeline's concurrency policy."""

from functions.core.decided import Situation, Skip, StartRun, Wanted
from functions.core.errors import IllegalPlanError
from functions.core.model import RunKind
from functions.core.pipelines import ConcurrencyPolicy, Pipeline, Pipelines
from functions.core.reasons import SkipReason
from functions.core.stages import plan_stages

__all__ = ["start"]


def start(pipeline: Pipeline, wanted: Wanted, pipelines: Pipelines, situation: Situation) -> StartRun | Skip:
    """Return the run that is wanted, or the rule that refuses it."""
    try:
        stages = plan_stages(
            pipeline.key, pipeline.kind, pipeline.stages, wanted.stages, checkpoints=situation.checkpoints
        )
    except IllegalPlanError as error:
        return Skip(reason=SkipReason.ILLEGAL_PLAN, detail="; ".join(error.missing), pipeline=pipeline.key)
    if pipeline.kind is RunKind.SCORING and situation.model_version is None:
        detail = f"{pipeline.model_name}@{pipeline.alias}"
        return Skip(reason=SkipReason.NO_MODEL_YET, detail=detail, pipeline=pipeline.key)
    policy, is_active = pipeline.concurrency.policy, situation.active_runs > 0
    if is_active and policy is ConcurrencyPolicy.DROP:
        return Skip(reason=SkipReason.DROPPED_WHILE_ACTIVE, pipeline=pipeline.key)
    return StartRun(
        run_id=wanted.run_id,
        pipeline=pipeline,
        cause=wanted.cause,
        stages=stages,
        parameters={**pipeline.parameters, **wanted.parameters},
        model_version=situation.model_version if pipeline.kind is RunKind.SCORING else None,
        input=wanted.input,
        config_version=pipelines.version,
        traceparent=wanted.traceparent,
        must_cancel_active=is_active and policy is ConcurrencyPolicy.SUPERSEDE,
    )
