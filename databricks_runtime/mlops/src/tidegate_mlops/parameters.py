"""Parses the strings a Databricks run is given into the parameters of a training or a scoring run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Literal

from tidegate_mlops.errors import InvalidParametersError

__all__ = [
    "FIELD_PATTERNS",
    "Parameters",
    "ScoringParameters",
    "TrainingParameters",
    "parameter_names",
    "parse_parameters",
]

Kind = Literal["training", "scoring"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingParameters:
    """What a training run is asked to do; the fields are the job's parameters and the notebook's widgets."""

    run_id: str
    attempt: int
    token: str
    pipeline: str
    kind: str
    environment: str
    release: str
    manifest_url: str
    manifest_sha256: str
    batch_id: str
    model_name: str
    model_version: str
    output_url: str
    traceparent: str
    feature_engineering: bool
    training: bool
    evaluation: bool
    publish: bool
    learning_rate: float
    num_leaves: int
    n_estimators: int
    seed: int

    def knobs(self) -> dict[str, float]:
        """Return the parameters that the model is fitted with."""
        return {
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "n_estimators": self.n_estimators,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringParameters:
    """What a scoring run is asked to do; the fields are the job's parameters and the notebook's widgets."""

    run_id: str
    attempt: int
    token: str
    pipeline: str
    kind: str
    environment: str
    release: str
    manifest_url: str
    manifest_sha256: str
    batch_id: str
    model_name: str
    model_version: str
    output_url: str
    traceparent: str
    validation: bool
    feature_engineering: bool
    batch_scoring: bool
    publish: bool
    max_quarantined_fraction: float

    def knobs(self) -> dict[str, float]:
        """Return the limits that the run keeps."""
        return {"max_quarantined_fraction": self.max_quarantined_fraction}


Parameters = TrainingParameters | ScoringParameters

_SHA256: Final = r"[0-9a-f]{64}"
_BLOB_URL: Final = r"https://[a-z0-9]{3,24}\.blob\.core\.windows\.net/[^?#\s]{1,4000}"
_FLAG: Final = r"true|false"

# docs/contracts/parameters.schema.json says the same; a test compares both on examples.
FIELD_PATTERNS: Final[Mapping[str, str]] = {
    "run_id": r"[a-z][a-z0-9_]{0,47}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}",
    "attempt": r"[1-9][0-9]{0,3}",
    "token": _SHA256,
    "pipeline": r"[a-z][a-z0-9_]{0,47}",
    "environment": r"[a-z][a-z0-9]{0,15}",
    "release": r"[0-9]+\.[0-9]+\.[0-9]+\+g[0-9a-f]{7,40}(\.d[0-9a-f]{8,40})?",
    "manifest_url": _BLOB_URL,
    "manifest_sha256": _SHA256,
    "batch_id": r"[0-9a-f]{16}",
    "model_name": r"[A-Za-z0-9_]+\.[A-Za-z0-9_]+\.[A-Za-z0-9_]+",
    "traceparent": r"|00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
    "validation": _FLAG,
    "feature_engineering": _FLAG,
    "training": _FLAG,
    "evaluation": _FLAG,
    "batch_scoring": _FLAG,
    "publish": _FLAG,
    "learning_rate": r"0?\.[0-9]{1,6}|1(\.0+)?",
    "num_leaves": r"[1-9][0-9]{0,3}",
    "n_estimators": r"[1-9][0-9]{0,3}",
    "seed": r"[0-9]{1,9}",
    "max_quarantined_fraction": r"0(\.[0-9]{1,6})?|1(\.0+)?",
}
_PATTERNS_BY_KIND: Final[Mapping[str, Mapping[str, str]]] = {
    "training": {"kind": "training", "model_version": "", "output_url": ""},
    "scoring": {"kind": "scoring", "model_version": r"[1-9][0-9]*", "output_url": _BLOB_URL},
}
_CLASSES: Final[Mapping[str, type[Parameters]]] = {"training": TrainingParameters, "scoring": ScoringParameters}


def parameter_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of a kind's parameters in their declared order."""
    return tuple(field.name for field in fields(_CLASSES[kind]))


def parse_parameters(kind: Kind, values: Mapping[str, str]) -> Parameters:
    """Return the parameters in `values`; raises InvalidParametersError naming every mistake."""
    patterns = {**FIELD_PATTERNS, **_PATTERNS_BY_KIND[kind]}
    names = parameter_names(kind)
    problems = [f"parameter {name!r} is missing" for name in names if name not in values]
    problems += [f"parameter {name!r} is unknown" for name in values if name not in names]
    parsed: dict[str, object] = {}
    types = {field.name: field.type for field in fields(_CLASSES[kind])}
    for name in names:
        value = values.get(name)
        if value is None:
            continue
        if re.fullmatch(patterns[name], value) is None:
            problems.append(f"parameter {name!r} is {value[:200]!r}, expected {patterns[name] or 'an empty string'}")
        else:
            parsed[name] = _convert(value, types[name])
    if problems:
        raise InvalidParametersError(problems)
    return _build(kind, parsed)


def _convert(value: str, wanted: object) -> object:
    if wanted is bool:
        return value == "true"
    if wanted is int:
        return int(value)
    if wanted is float:
        return float(value)
    return value


def _build(kind: Kind, parsed: dict[str, object]) -> Parameters:
    build: type = _CLASSES[kind]  # the patterns above have made every value what its field says
    parameters: Parameters = build(**parsed)
    return parameters
