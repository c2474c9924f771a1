"""Bounds the parameters of a run, above all those that a caller may choose."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from functions.core.errors import Problem
from functions.core.model import RunKind, Stage

__all__ = [
    "MAX_PARAMETERS_BYTES",
    "RUN_PARAMETERS",
    "STAGES_OF_KIND",
    "TUNABLE",
    "TunableParameter",
    "check_tunable",
    "defaults_of",
    "size_of",
]

MAX_PARAMETERS_BYTES: Final = 10_000  # the documented limit of task parameters; none is documented for job parameters

STAGES_OF_KIND: Final[Mapping[RunKind, tuple[Stage, ...]]] = {
    RunKind.TRAINING: (Stage.FEATURE_ENGINEERING, Stage.TRAINING, Stage.EVALUATION, Stage.PUBLISH),
    RunKind.SCORING: (Stage.VALIDATION, Stage.FEATURE_ENGINEERING, Stage.BATCH_SCORING, Stage.PUBLISH),
}

RUN_PARAMETERS: Final = (
    "run_id",
    "attempt",
    "token",
    "pipeline",
    "kind",
    "environment",
    "release",  # never sent: the job's own default names the release that was deployed with it
    "manifest_url",
    "manifest_sha256",
    "batch_id",
    "model_name",
    "model_version",
    "output_url",
    "traceparent",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunableParameter:
    """A parameter that `pipelines.toml` may allow callers to choose, with its bounds."""

    name: str
    default: str
    pattern: str
    expected: str
    minimum: float
    maximum: float

    def refusal(self, value: str) -> str | None:
        """Return what was expected if `value` is out of bounds, else None."""
        is_allowed = re.fullmatch(self.pattern, value, flags=re.ASCII) is not None
        return None if is_allowed and self.minimum <= float(value) <= self.maximum else self.expected


_COUNT: Final = r"[1-9][0-9]{0,3}"
_TUNABLE: Final[Mapping[RunKind, tuple[TunableParameter, ...]]] = {
    RunKind.TRAINING: (
        TunableParameter(
            name="learning_rate",
            default="0.05",
            pattern=r"0?\.[0-9]{1,6}|1(\.0+)?",
            expected="a number above 0, at most 1, with at most six decimals",
            minimum=0.000001,
            maximum=1,
        ),
        TunableParameter(
            name="num_leaves",
            default="15",
            pattern=_COUNT,
            expected="a whole number from 2 to 4096",
            minimum=2,
            maximum=4096,
        ),
        TunableParameter(
            name="n_estimators",
            default="150",
            pattern=_COUNT,
            expected="a whole number from 1 to 5000",
            minimum=1,
            maximum=5000,
        ),
        TunableParameter(
            name="seed",
            default="13",
            pattern=r"[0-9]{1,9}",
            expected="a whole number of at most nine digits",
            minimum=0,
            maximum=999_999_999,
        ),
    ),
    RunKind.SCORING: (
        TunableParameter(
            name="max_quarantined_fraction",
            default="0.1",
            pattern=r"0(\.[0-9]{1,6})?|1(\.0+)?",
            expected="a number from 0 to 1 with at most six decimals",
            minimum=0,
            maximum=1,
        ),
    ),
}
TUNABLE: Final[Mapping[RunKind, Mapping[str, TunableParameter]]] = {
    kind: {parameter.name: parameter for parameter in parameters} for kind, parameters in _TUNABLE.items()
}
_MAX_TUNABLE_LENGTH: Final = 32


def defaults_of(kind: RunKind) -> dict[str, str]:
    """Return every tunable parameter of a kind with its default."""
    return {name: parameter.default for name, parameter in TUNABLE[kind].items()}


def check_tunable(kind: RunKind, name: str, value: object, place: str) -> Problem | None:
    """Return what is wrong with a caller's value for a tunable parameter, or None; no text reaches a run unchecked."""
    parameter = TUNABLE[kind].get(name)
    if parameter is None:
        return Problem(place, repr(name[:80]), f"one of {', '.join(TUNABLE[kind])}")
    if not isinstance(value, str):
        return Problem(place, type(value).__name__, f"a string with {parameter.expected}")
    if len(value) > _MAX_TUNABLE_LENGTH:
        return Problem(place, f"{len(value)} characters", parameter.expected)
    refusal = parameter.refusal(value)
    return None if refusal is None else Problem(place, repr(value), refusal)


def size_of(parameters: Mapping[str, str]) -> int:
    """Return how many bytes the parameters take as JSON, the way the SDK sends them."""
    return len(json.dumps(dict(parameters)).encode())
