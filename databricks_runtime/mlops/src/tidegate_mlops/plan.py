"""Says which stages a run has, in which order, what each needs, and which of them are switched on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, Self

from tidegate_mlops.errors import InvalidParametersError, MissingPrerequisiteError, StageOrderError
from tidegate_mlops.parameters import Parameters, TrainingParameters

__all__ = ["NEEDS", "ORDER", "Plan", "Stage", "StageOutcome", "StageResult"]


class Stage(StrEnum):
    """A part of a job that can be switched on; the value is its parameter name."""

    VALIDATION = "validation"
    FEATURE_ENGINEERING = "feature_engineering"
    TRAINING = "training"
    EVALUATION = "evaluation"
    BATCH_SCORING = "batch_scoring"
    PUBLISH = "publish"


class StageOutcome(StrEnum):
    """What became of a stage."""

    RAN = "ran"
    SKIPPED_BY_FLAG = "skipped_by_flag"
    SKIPPED_BY_UPSTREAM = "skipped_by_upstream"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """One stage of one run, as result and completion event tell it."""

    name: Stage
    outcome: StageOutcome
    duration_s: float
    reason: str | None

    def to_json(self) -> dict[str, object]:
        """Return the object of the result and completion schemas."""
        return {
            "name": self.name.value,
            "outcome": self.outcome.value,
            "duration_s": round(self.duration_s, 3),
            "reason": self.reason,
        }


ORDER: Final[Mapping[Literal["training", "scoring"], tuple[Stage, ...]]] = {
    "training": (Stage.FEATURE_ENGINEERING, Stage.TRAINING, Stage.EVALUATION, Stage.PUBLISH),
    "scoring": (Stage.VALIDATION, Stage.FEATURE_ENGINEERING, Stage.BATCH_SCORING, Stage.PUBLISH),
}
NEEDS: Final[Mapping[Literal["training", "scoring"], Mapping[Stage, tuple[Stage, ...]]]] = {
    "training": {
        Stage.FEATURE_ENGINEERING: (),
        Stage.TRAINING: (Stage.FEATURE_ENGINEERING,),
        Stage.EVALUATION: (Stage.FEATURE_ENGINEERING, Stage.TRAINING),
        Stage.PUBLISH: (Stage.FEATURE_ENGINEERING, Stage.TRAINING),  # the gate measures on the held-out rows
    },
    "scoring": {
        Stage.VALIDATION: (),
        Stage.FEATURE_ENGINEERING: (Stage.VALIDATION,),
        Stage.BATCH_SCORING: (Stage.VALIDATION, Stage.FEATURE_ENGINEERING),  # validation knows the bad rows
        Stage.PUBLISH: (Stage.BATCH_SCORING,),
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The stages of one run and which of them it was asked to run."""

    kind: Literal["training", "scoring"]
    enabled: frozenset[Stage]

    @classmethod
    def of(cls, parameters: Parameters) -> Self:
        """Return the plan that the stage flags ask for; raises InvalidParametersError if they ask for nothing."""
        kind: Literal["training", "scoring"] = "training" if isinstance(parameters, TrainingParameters) else "scoring"
        enabled = frozenset(stage for stage in ORDER[kind] if getattr(parameters, stage.value))
        if not enabled:
            raise InvalidParametersError(["every stage flag is 'false', expected at least one stage"])
        return cls(kind=kind, enabled=enabled)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages in their order."""
        return ORDER[self.kind]

    def check_prerequisites(self, has_checkpoint: Callable[[Stage], bool]) -> None:
        """Raise MissingPrerequisiteError if an enabled stage needs a disabled one that left no checkpoint."""
        disabled_needs = [
            (stage, needed)
            for stage in self.stages
            if stage in self.enabled
            for needed in NEEDS[self.kind][stage]
            if needed not in self.enabled
        ]
        found = {needed: has_checkpoint(needed) for needed in {needed for _, needed in disabled_needs}}
        missing = [(stage.value, needed.value) for stage, needed in disabled_needs if not found[needed]]
        if missing:
            raise MissingPrerequisiteError(missing)

    def check_next(self, stage: Stage, done: tuple[Stage, ...]) -> None:
        """Raise StageOrderError unless `stage` is the one after those done."""
        expected = self.stages[len(done)] if len(done) < len(self.stages) else None
        if stage is not expected:
            raise StageOrderError(
                f"stage {stage.value!r} was called, expected {expected.value if expected else 'none'!r}"
            )
