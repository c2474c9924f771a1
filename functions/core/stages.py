"""Checks that the stages of a plan can work: what each needs must run before it or be left from an earlier run."""

from collections.abc import Collection, Mapping
from typing import Final

from functions.core.errors import IllegalPlanError
from functions.core.model import PipelineKey, RunKind, Stage
from functions.core.parameters import STAGES_OF_KIND

__all__ = ["missing_prerequisites", "plan_stages"]

# The notebooks check the same before any work (tidegate_mlops.plan); a test compares both.
_NEEDS: Final[Mapping[RunKind, Mapping[Stage, tuple[Stage, ...]]]] = {
    RunKind.TRAINING: {
        Stage.TRAINING: (Stage.FEATURE_ENGINEERING,),
        Stage.EVALUATION: (Stage.FEATURE_ENGINEERING, Stage.TRAINING),
        Stage.PUBLISH: (Stage.FEATURE_ENGINEERING, Stage.TRAINING),  # its gate measures on the held-out rows
    },
    RunKind.SCORING: {
        Stage.FEATURE_ENGINEERING: (Stage.VALIDATION,),
        Stage.BATCH_SCORING: (Stage.VALIDATION, Stage.FEATURE_ENGINEERING),  # validation knows the bad rows
        Stage.PUBLISH: (Stage.BATCH_SCORING,),
    },
}


def missing_prerequisites(
    kind: RunKind, stages: Mapping[Stage, bool], *, checkpoints: Collection[Stage]
) -> tuple[str, ...]:
    """Return what a plan lacks, one sentence each; none means that it can work.

    Args:
        kind: What is run.
        stages: Every stage of the kind, with its flag.
        checkpoints: The stages whose output an earlier attempt on the same files left.
    """
    if not any(stages.values()):
        return ("at least one stage must be on",)
    return tuple(
        f"{stage.value} needs {needed.value}"
        for stage in STAGES_OF_KIND[kind]
        if stages[stage]
        for needed in _NEEDS[kind].get(stage, ())
        if not stages[needed] and needed not in checkpoints
    )


def plan_stages(
    pipeline: PipelineKey,
    kind: RunKind,
    defaults: Mapping[Stage, bool],
    overrides: Mapping[Stage, bool],
    *,
    checkpoints: Collection[Stage] = (),
) -> dict[Stage, bool]:
    """Return the stages of one run: the pipeline's defaults with a caller's overrides.

    Raises:
        IllegalPlanError: A stage is not one of this kind's, or a prerequisite is missing.
    """
    foreign = [stage.value for stage in overrides if stage not in STAGES_OF_KIND[kind]]
    if foreign:
        raise IllegalPlanError(pipeline, [f"{name} is no stage of {kind.value}" for name in foreign])
    stages = {stage: overrides.get(stage, defaults[stage]) for stage in STAGES_OF_KIND[kind]}
    if missing := missing_prerequisites(kind, stages, checkpoints=checkpoints):
        raise IllegalPlanError(pipeline, missing)
    return stages
