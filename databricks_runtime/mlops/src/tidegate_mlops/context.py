"""Holds what the stages of one run share: parameters, ports, and what they have found out so far."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tidegate_mlops.checkpoints import Checkpoints
from tidegate_mlops.frames import Frames
from tidegate_mlops.manifest import InputManifest
from tidegate_mlops.ports import BlobStore, ExperimentRun, Model, ModelCode, ModelRegistry, PreparedData

__all__ = ["Findings", "StageContext"]


@dataclass(kw_only=True)
class Findings:
    """What a run has to tell at its end; stages fill it in."""

    model: Mapping[str, object] | None = None
    outputs: Mapping[str, object] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    figure: bytes | None = None  # the picture to show under the cell of the stage that drew it


@dataclass(frozen=True, kw_only=True)
class StageContext[P: PreparedData, M: Model]:
    """What a stage works with."""

    code: ModelCode[P, M]
    store: BlobStore
    frames: Frames[P, M]
    checkpoints: Checkpoints
    experiment_run: ExperimentRun
    registry: ModelRegistry
    manifest: InputManifest
    findings: Findings
    execution: str
    scratch: Path  # a local folder of this run alone
    now: Callable[[], datetime]
