"""Keeps what a stage made, so that a later run of the same batch can go on from there.

Layout, in the container of the input manifest (nothing listens to that container):

    checkpoints/<pipeline>/batch=<batch id>/<stage>-<key>/current.json      which execution's data counts
    checkpoints/<pipeline>/batch=<batch id>/<stage>-<key>/<execution>/...   its data, never written twice

`current.json` is written last, so a checkpoint that can be seen is whole.
Two executions at once both leave whole data; the later one's counts, and they are equal.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from tidegate_mlops.errors import CheckpointLostError
from tidegate_mlops.parameters import Parameters, TrainingParameters
from tidegate_mlops.plan import Stage
from tidegate_mlops.ports import BlobStore
from tidegate_mlops.urls import BlobUrl

__all__ = ["Checkpoint", "Checkpoints", "checkpoint_key"]

_KNOBS_FROM: Final = frozenset({Stage.TRAINING, Stage.EVALUATION})  # stages whose result depends on the knobs
_MODEL_FROM: Final = frozenset({Stage.FEATURE_ENGINEERING, Stage.BATCH_SCORING})  # of scoring: on the pinned model


def checkpoint_key(parameters: Parameters, stage: Stage) -> str:
    """Return 16 hex digits over everything that the stage's result depends on, apart from pipeline and batch.

    The release is part of it: other code may make other features of the same files.
    """
    facts: dict[str, object] = {"kind": parameters.kind, "release": parameters.release, "stage": stage.value}
    if isinstance(parameters, TrainingParameters):
        if stage in _KNOBS_FROM:
            facts |= parameters.knobs()
    elif stage in _MODEL_FROM:
        facts |= {"model_name": parameters.model_name, "model_version": parameters.model_version}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A stage's result: where its data is, and the facts that the next stage needs."""

    folder: BlobUrl
    facts: Mapping[str, object]

    def number(self, name: str) -> int:
        """Return a fact that is a whole number."""
        value = self.facts[name]
        if not isinstance(value, int):
            raise TypeError(f"checkpoint fact {name!r} is {value!r}, expected an integer")
        return value

    def text(self, name: str) -> str:
        """Return a fact that is a text."""
        value = self.facts[name]
        if not isinstance(value, str):
            raise TypeError(f"checkpoint fact {name!r} is {value!r}, expected a text")
        return value


class Checkpoints:
    """The checkpoints of one batch as one execution sees them.

    Args:
        store: where they are kept.
        parameters: of this run.
        execution: names this execution of the notebook among all others.
    """

    def __init__(self, store: BlobStore, parameters: Parameters, execution: str) -> None:
        self._store = store
        self._parameters = parameters
        self._execution = execution

    def folder(self, stage: Stage) -> BlobUrl:
        """Return the folder that only this execution writes the stage's data into."""
        return self._stage_folder(stage).child(self._execution)

    def find(self, stage: Stage) -> Checkpoint | None:
        """Return the stage's checkpoint, this run's or an earlier one's."""
        blob = self._store.read(self._stage_folder(stage).child("current.json"))
        if blob is None:
            return None
        document = json.loads(blob.data)
        return Checkpoint(folder=BlobUrl.parse(document["folder"]), facts=document["facts"])

    def need(self, stage: Stage) -> Checkpoint:
        """Return the stage's checkpoint; the plan was checked before any work, so it vanished if it is not there."""
        checkpoint = self.find(stage)
        if checkpoint is None:
            raise CheckpointLostError(
                f"the checkpoint of stage {stage.value!r} is gone from {self._stage_folder(stage)}"
            )
        return checkpoint

    def save(self, stage: Stage, facts: Mapping[str, object]) -> Checkpoint:
        """Make the stage's data count, which is in `folder(stage)` by now."""
        document = {
            "schema_version": 1,
            "stage": stage.value,
            "run_id": self._parameters.run_id,
            "attempt": self._parameters.attempt,
            "folder": str(self.folder(stage)),
            "facts": facts,
        }
        data = json.dumps(document, sort_keys=True, indent=1).encode()
        self._store.put(self._stage_folder(stage).child("current.json"), data)
        return Checkpoint(folder=self.folder(stage), facts=facts)

    def save_tables(self, stage: Stage, tables: Mapping[str, pd.DataFrame]) -> None:
        """Write tables that live on the driver as Parquet into the stage's folder."""
        for name, table in tables.items():
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            self._store.put(self.folder(stage).child(f"{name}.parquet"), buffer.getvalue())

    def load_tables(self, checkpoint: Checkpoint, names: tuple[str, ...]) -> dict[str, pd.DataFrame]:
        """Return tables that `save_tables` wrote."""
        tables = {}
        for name in names:
            blob = self._store.read(checkpoint.folder.child(f"{name}.parquet"))
            if blob is None:
                raise CheckpointLostError(f"{checkpoint.folder} has lost its table {name!r}")
            tables[name] = pd.read_parquet(io.BytesIO(blob.data))
        return tables

    def _stage_folder(self, stage: Stage) -> BlobUrl:
        manifest = BlobUrl.parse(self._parameters.manifest_url)
        batch = f"checkpoints/{self._parameters.pipeline}/batch={self._parameters.batch_id}"
        return manifest.at(f"{batch}/{stage.value}-{checkpoint_key(self._parameters, stage)}")
