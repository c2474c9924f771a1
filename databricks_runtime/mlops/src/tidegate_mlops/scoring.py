"""Runs the stages of a scoring job: input gate, features, scores, and their publication."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidegate_mlops.checkpoints import Checkpoint
from tidegate_mlops.context import StageContext
from tidegate_mlops.errors import InputRefusedError, RefusedFile, ScoreContractError
from tidegate_mlops.frames import RowCounts, ScoreStamp, unreadable_path
from tidegate_mlops.input_files import accept_files, columns_of, count_rows
from tidegate_mlops.manifest import InputFile, confirm_unchanged
from tidegate_mlops.parameters import ScoringParameters
from tidegate_mlops.plan import Stage
from tidegate_mlops.ports import BlobFacts, Model, PreparedData, RegisteredModel
from tidegate_mlops.scores import ScoreSet, publish_scores
from tidegate_mlops.urls import BlobUrl

__all__ = ["ScoringStages"]

_REASONS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded[M: Model]:
    """The pinned model and the registry's record of it."""

    model: M
    registered: RegisteredModel


class ScoringStages[P: PreparedData, M: Model]:
    """The scoring stages in their order; each returns a sentence about what it did, or None.

    Rows go from checkpoint to checkpoint through Spark and never to the driver.
    """

    def __init__(self, context: StageContext[P, M], parameters: ScoringParameters) -> None:
        self._context = context
        self._parameters = parameters
        self._pinned: _Loaded[M] | None = None

    def run(self, stage: Stage) -> str | None:
        """Run one stage."""
        stages = {
            Stage.VALIDATION: self._validation,
            Stage.FEATURE_ENGINEERING: self._feature_engineering,
            Stage.BATCH_SCORING: self._batch_scoring,
            Stage.PUBLISH: self._publish,
        }
        return stages[stage]()

    def _validation(self) -> str:
        """Refuse bad files, set bad rows apart, and leave a checked copy: what follows cannot be changed under us."""
        context = self._context
        files = accept_files(context.store, context.manifest.files, context.code, training=False)
        rows_in = sum(file.rows for file in files)
        target = context.checkpoints.folder(Stage.VALIDATION)
        try:
            counts = context.frames.write_checked(files, target)
        except Exception as error:
            # Spark stumbles over a file that changed under it, or whose footer is whole and whose pages are not.
            confirm_unchanged(context.store, context.manifest.files)
            if (unreadable := _file_at(unreadable_path(error), context.manifest.files)) is not None:
                reason = f"{unreadable.url.name!r} cannot be read beyond its footer"
                raise InputRefusedError([reason], [_refused(unreadable, reason)]) from error
            raise
        confirm_unchanged(context.store, context.manifest.files)
        if counts.rows != rows_in:
            raise InputRefusedError([f"the files' footers promise {rows_in} rows, but {counts.rows} could be read"])
        allowed = self._parameters.max_quarantined_fraction
        if counts.bad and (counts.bad == counts.rows or counts.bad > allowed * counts.rows):
            shown = context.frames.commonest_reasons(target, _REASONS_SHOWN)
            raise InputRefusedError(
                [f"{counts.bad} of {counts.rows} rows are bad, at most {allowed:.0%} may be", *shown],
                _of_too_many_bad_rows(context.frames.count_by_file(target), context.manifest.files, allowed=allowed),
            )
        facts = {"rows_in": counts.rows, "rows_quarantined": counts.bad}
        context.checkpoints.save(Stage.VALIDATION, facts)
        return f"{counts.rows} rows of {len(files)} files, {counts.bad} of them bad"

    def _feature_engineering(self) -> None:
        context = self._context
        checked = context.checkpoints.need(Stage.VALIDATION)
        target = context.checkpoints.folder(Stage.FEATURE_ENGINEERING)
        context.frames.write_features(checked.folder, self._pinned_model().model, target)
        context.checkpoints.save(Stage.FEATURE_ENGINEERING, {})

    def _batch_scoring(self) -> str:
        context, parameters = self._context, self._parameters
        checked = context.checkpoints.need(Stage.VALIDATION)
        features = context.checkpoints.need(Stage.FEATURE_ENGINEERING)
        output = BlobUrl.parse(parameters.output_url)
        data, quarantine = (output.child(f"{name}/{context.execution}") for name in ("data", "quarantine"))
        stamp = ScoreStamp(
            model_name=parameters.model_name, model_version=parameters.model_version, run_id=parameters.run_id
        )
        counts = context.frames.write_scores(features.folder, self._pinned_model().model, stamp, data)
        bad = checked.number("rows_quarantined")
        if bad:
            context.frames.write_bad_rows(checked.folder, quarantine)
        facts = {
            "data": str(data),
            "quarantine": str(quarantine) if bad else "",
            "rows_in": checked.number("rows_in"),
            "rows_scored": counts.rows,
            "rows_quarantined": bad,
            "bad_scores": counts.bad,
        }
        context.checkpoints.save(Stage.BATCH_SCORING, facts)
        self._tell(facts)
        return f"{counts.rows} rows scored"

    def _publish(self) -> str:
        context, parameters = self._context, self._parameters
        scored = context.checkpoints.need(Stage.BATCH_SCORING)
        scores = self._score_set(scored)
        registered = self._registered()
        context.findings.model = {**(context.findings.model or {}), "mlflow_run_id": registered.mlflow_run_id}
        published = publish_scores(
            context.store,
            scores,
            parameters,
            context.manifest,
            mlflow_run_id=registered.mlflow_run_id,
            now=context.now(),
        )
        context.findings.outputs = published.outputs
        self._tell({name: scored.number(name) for name in ("rows_in", "rows_scored", "rows_quarantined")})
        if published.is_ours:
            return f"{scores.rows_scored} scores in {len(scores.files)} files"
        # Ours are removed; what goes on from the checkpoint of the scores must find those that stay.
        facts = {name: published.outputs[name] for name in ("rows_in", "rows_scored", "rows_quarantined")}
        folders = {"data": str(published.data_folder), "quarantine": str(published.quarantine_folder or "")}
        context.checkpoints.save(Stage.BATCH_SCORING, {**scored.facts, **facts, **folders})
        return "another attempt of this run had published scores, which stay"

    def _score_set(self, scored: Checkpoint) -> ScoreSet:
        """Return what is really in storage, beside what was counted while it was written."""
        store, frames = self._context.store, self._context.frames
        data = BlobUrl.parse(scored.text("data"))
        quarantine = BlobUrl.parse(scored.text("quarantine")) if scored.text("quarantine") else None
        files = _parquet_files(store.list_folder(data))
        quarantined = _parquet_files(store.list_folder(quarantine)) if quarantine else []
        if not files:
            raise ScoreContractError([f"no file with scores is left under {data}"])
        declared = [
            {"name": field.name, "type": field.dataType.simpleString(), "nullable": False}
            for field in frames.score_schema().fields
        ]
        return ScoreSet(
            data_folder=data,
            quarantine_folder=quarantine,
            columns=[{"name": name, "type": kind, "nullable": False} for name, kind in columns_of(store, files[0])],
            declared_columns=declared,
            score_column=self._context.code.score_column,
            rows_in=scored.number("rows_in"),
            rows_scored=scored.number("rows_scored"),
            rows_quarantined=scored.number("rows_quarantined"),
            bad_scores=scored.number("bad_scores"),
            files=files,
            rows_in_files=count_rows(store, files),
            quarantine_files=quarantined,
            rows_in_quarantine_files=count_rows(store, quarantined),
        )

    def _registered(self) -> RegisteredModel:
        if self._pinned is not None:
            return self._pinned.registered
        return self._context.registry.version(self._parameters.model_name, self._parameters.model_version)

    def _pinned_model(self) -> _Loaded[M]:
        """Return the model version that the run was decided with, fetched once."""
        if self._pinned is None:
            registered = self._registered()
            folder: Path = self._context.scratch / "model"
            folder.mkdir()
            model = self._context.code.load(self._context.registry.download(registered, folder))
            self._pinned = _Loaded(model=model, registered=registered)
        return self._pinned

    def _tell(self, numbers: Mapping[str, object]) -> None:
        metrics = {name: float(value) for name, value in numbers.items() if isinstance(value, int)}
        self._context.findings.metrics.update(metrics)
        self._context.experiment_run.log(metrics=metrics)


def _parquet_files(files: Sequence[BlobFacts]) -> list[BlobFacts]:
    """Return the data files among what a writer leaves: commit protocols write files of their own beside them."""
    return [file for file in files if file.url.name.endswith(".parquet")]


def _file_at(path: str | None, files: Sequence[InputFile]) -> InputFile | None:
    """Return the one file that Spark means by a path, if there is exactly one."""
    found = [file for file in files if path is not None and f"/{path}".endswith(f"/{file.url.path}")]
    return found[0] if len(found) == 1 else None


def _of_too_many_bad_rows(
    counts: Mapping[str, RowCounts], files: Sequence[InputFile], *, allowed: float
) -> list[RefusedFile]:
    """Return the files more of whose rows are bad than may be; without them the others are within what may be.

    Rows say their file's name only, so names that several files share accuse none of them.
    """
    names = Counter(file.url.name for file in files)
    refused: list[RefusedFile] = []
    for file in files:
        count = counts.get(file.url.name)
        if count is None or names[file.url.name] > 1 or not count.bad:
            continue
        if count.bad == count.rows or count.bad > allowed * count.rows:
            reason = f"{count.bad} of {count.rows} rows of {file.url.name!r} are bad, at most {allowed:.0%} may be"
            refused.append(_refused(file, reason))
    return refused


def _refused(file: InputFile, reason: str) -> RefusedFile:
    return RefusedFile(url=str(file.url), etag=file.etag, reason=f"{InputRefusedError.code}: {reason}")
