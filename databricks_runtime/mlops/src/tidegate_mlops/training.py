"""Runs the stages of a training job: features, fit, evaluation, and registration behind a gate."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from tidegate_mlops.context import StageContext
from tidegate_mlops.errors import InputRefusedError, ModelUnavailableError
from tidegate_mlops.frames import MAX_TRAINING_ROWS, typed_rows
from tidegate_mlops.gate import GateDecision, decide_promotion
from tidegate_mlops.input_files import accept_files
from tidegate_mlops.manifest import confirm_unchanged
from tidegate_mlops.parameters import TrainingParameters
from tidegate_mlops.plan import Stage
from tidegate_mlops.ports import Model, PreparedData, RegisteredModel
from tidegate_mlops.urls import BlobUrl

__all__ = ["TrainingStages"]

_MAX_BAD_FRACTION: Final = 0.2  # history with more bad rows than this is some other table
_REASONS_SHOWN: Final = 5
_MODEL_FOLDER: Final = "model"


class TrainingStages[P: PreparedData, M: Model]:
    """The training stages in their order; each returns a sentence about what it did, or None.

    A stage takes its input from the one before if that ran in this process, else from its checkpoint.
    """

    def __init__(self, context: StageContext[P, M], parameters: TrainingParameters) -> None:
        self._context = context
        self._parameters = parameters
        self._prepared: P | None = None
        self._model: M | None = None
        self._logged: tuple[str, str] | None = None  # the model's MLflow URI and the run that made it

    def run(self, stage: Stage) -> str | None:
        """Run one stage."""
        stages = {
            Stage.FEATURE_ENGINEERING: self._feature_engineering,
            Stage.TRAINING: self._training,
            Stage.EVALUATION: self._evaluation,
            Stage.PUBLISH: self._publish,
        }
        return stages[stage]()

    def _feature_engineering(self) -> str:
        context = self._context
        files = accept_files(context.store, context.manifest.files, context.code, training=True)
        rows = context.frames.training_rows(files)
        confirm_unchanged(context.store, context.manifest.files)
        rows_in = sum(file.rows for file in files)
        if rows_in <= MAX_TRAINING_ROWS and len(rows) != rows_in:  # of more rows Spark takes a sample
            raise InputRefusedError([f"the files' footers promise {rows_in} rows, but {len(rows)} could be read"])
        good, bad = self._sorted_out(rows)
        try:
            prepared = context.code.prepare(good)
        except ValueError as error:
            raise InputRefusedError([str(error)]) from error
        tables, state = prepared.to_parts()
        context.checkpoints.save_tables(Stage.FEATURE_ENGINEERING, tables)
        facts = {"rows_read": float(len(rows)), "rows_bad": float(bad), **prepared.facts()}
        context.checkpoints.save(
            Stage.FEATURE_ENGINEERING, {"state": state, "tables": sorted(tables), "metrics": facts}
        )
        context.findings.metrics.update(facts)
        context.experiment_run.log(metrics=facts)
        self._prepared = prepared
        return f"{len(rows)} rows of {len(files)} files, {bad} of them bad"

    def _sorted_out(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
        """Return the good rows with their declared types and the number of bad ones, which are kept beside them."""
        code, checkpoints = self._context.code, self._context.checkpoints
        reasons = code.row_problems(rows)
        is_bad = reasons != ""
        bad = int(is_bad.sum())
        if bad:
            commonest = reasons[is_bad].value_counts().head(_REASONS_SHOWN)
            if bad > _MAX_BAD_FRACTION * len(rows):
                shown = [f"{count} rows: {reason}" for reason, count in commonest.items()]
                raise InputRefusedError(
                    [f"{bad} of {len(rows)} rows are bad, at most {_MAX_BAD_FRACTION:.0%} may be", *shown]
                )
            rejected = rows[is_bad].astype(str).assign(reason=reasons[is_bad])
            checkpoints.save_tables(Stage.FEATURE_ENGINEERING, {"rejected": rejected})
        good = rows[~is_bad].reset_index(drop=True)
        return typed_rows(good, code.input_types(training=True)), bad

    def _training(self) -> str:
        context, knobs = self._context, self._parameters.knobs()
        prepared = self._prepared_data()
        context.experiment_run.log(params=context.code.settings(knobs))
        model = context.code.fit(prepared, knobs)
        folder = context.scratch / _MODEL_FOLDER
        folder.mkdir()
        model.save(folder)
        example = prepared.to_parts()[0]["flights"].head(100)[list(context.code.input_types(training=False))]
        scores = pd.DataFrame({context.code.score_column: model.predict(example)})
        uri = context.experiment_run.log_model(folder, context.code, example, scores)
        self._model, self._logged = model, (uri, context.experiment_run.run_id)
        context.checkpoints.save(Stage.TRAINING, {"model_uri": uri, "mlflow_run_id": context.experiment_run.run_id})
        self._tell_model(version=None, is_champion=None)
        return f"logged as {uri}"

    def _evaluation(self) -> str:
        context = self._context
        model, prepared = self._fitted_model(), self._prepared_data()
        metrics = context.code.evaluate(model, prepared)
        context.findings.metrics.update(metrics)
        context.experiment_run.log(metrics=metrics)
        folder = context.scratch / "figures"
        folder.mkdir()
        figures = context.code.draw(
            model, prepared, folder, title=f"{self._parameters.model_name}, {self._parameters.run_id}"
        )
        context.findings.figure = figures[0].read_bytes() if figures else None
        context.experiment_run.log_files(folder, under="figures")
        context.checkpoints.save(Stage.EVALUATION, {"metrics": metrics})
        return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())

    def _publish(self) -> str:
        """Register the model, then let it take the champion's place if the gate says so.

        Interleaving: another run may move the alias between our reading of it and our writing. The lock keeps runs of
        this project in line; a person may still move it, so it is read again before it is written.
        """
        context, parameters = self._context, self._parameters
        model, prepared = self._fitted_model(), self._prepared_data()
        uri, mlflow_run_id = self._logged_model()
        # Unity Catalog allows no dots in the keys of a version's tags, and 256 characters in a value.
        tags = {"tidegate_run_id": parameters.run_id, "tidegate_release": parameters.release}
        challenger = context.registry.register(uri, parameters.model_name, mlflow_run_id=mlflow_run_id, tags=tags)
        loss = context.code.gate_loss(model, prepared)
        lock = BlobUrl.parse(parameters.manifest_url).at(f"locks/champion/{parameters.model_name}")
        with context.store.lock(lock):
            decision, champion_loss = self._judge(challenger, loss, prepared)
            if decision.is_promoted:
                context.registry.crown(challenger)
        losses = {"gate_loss": loss} | ({} if champion_loss is None else {"gate_champion_loss": champion_loss})
        context.findings.metrics.update(losses)
        verdict = {"gate": "promoted" if decision.is_promoted else "kept", "gate_reason": decision.reason[:256]}
        run_tags = {f"tidegate.{name}": value for name, value in verdict.items()}
        context.experiment_run.log(metrics=losses, tags=run_tags | {"tidegate.model_version": challenger.version})
        context.registry.tag(challenger, {f"tidegate_{name}": value for name, value in verdict.items()})
        self._tell_model(version=challenger.version, is_champion=decision.is_promoted)
        done = "is champion" if decision.is_promoted else "is registered, the champion stays"
        return f"version {challenger.version} {done}: {decision.reason}"

    def _judge(self, challenger: RegisteredModel, loss: float, prepared: P) -> tuple[GateDecision, float | None]:
        """Return the gate's decision against whoever is champion until the very end, and that one's loss."""
        registry, name = self._context.registry, self._parameters.model_name
        champion = registry.champion(name)
        while True:
            if champion is not None and champion.version == challenger.version:
                return GateDecision(is_promoted=True, reason="it is the champion already"), None
            champion_loss = self._champion_loss(champion, prepared)
            version = champion.version if champion else None
            decision = decide_promotion(challenger_loss=loss, champion_version=version, champion_loss=champion_loss)
            present = registry.champion(name)
            if present == champion or not decision.is_promoted:
                return decision, champion_loss
            champion = present

    def _champion_loss(self, champion: RegisteredModel | None, prepared: P) -> float | None:
        if champion is None:
            return None
        folder = self._context.scratch / f"champion-{champion.version}"
        folder.mkdir(exist_ok=True)
        try:
            model = self._context.code.load(self._context.registry.download(champion, folder))
            return self._context.code.gate_loss(model, prepared)
        except (ModelUnavailableError, ValueError, KeyError, OSError):  # a model of other code, or a damaged one
            return None

    def _prepared_data(self) -> P:
        if self._prepared is None:
            checkpoint = self._context.checkpoints.need(Stage.FEATURE_ENGINEERING)
            names, state, metrics = (checkpoint.facts[key] for key in ("tables", "state", "metrics"))
            if not isinstance(names, list) or not isinstance(state, Mapping) or not isinstance(metrics, Mapping):
                raise TypeError(f"the checkpoint at {checkpoint.folder} is damaged")
            tables = self._context.checkpoints.load_tables(checkpoint, tuple(str(name) for name in names))
            self._prepared = self._context.code.prepared_from_parts(tables, state)
            self._context.findings.metrics.update({str(name): float(value) for name, value in metrics.items()})
        return self._prepared

    def _logged_model(self) -> tuple[str, str]:
        if self._logged is None:
            checkpoint = self._context.checkpoints.need(Stage.TRAINING)
            self._logged = (checkpoint.text("model_uri"), checkpoint.text("mlflow_run_id"))
            self._tell_model(version=None, is_champion=None)
        return self._logged

    def _fitted_model(self) -> M:
        if self._model is None:
            uri, _ = self._logged_model()
            folder: Path = self._context.scratch / "logged"
            folder.mkdir()
            self._model = self._context.code.load(self._context.registry.download_logged(uri, folder))
        return self._model

    def _tell_model(self, *, version: str | None, is_champion: bool | None) -> None:
        self._context.findings.model = {
            "name": self._parameters.model_name,
            "version": version,
            "mlflow_run_id": self._logged[1] if self._logged else None,
            "is_champion": is_champion,
        }
