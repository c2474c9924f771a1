"""Freezes the files of a decided run into its manifest and its ledger entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from functions.core.decided import ArrivalsInput, Situation, Skip, StartRun
from functions.core.errors import ParametersTooLargeError
from functions.core.ledger import ARRIVALS_KEPT, Change, Run
from functions.core.manifest import InputManifest, ManifestFile, ManifestPointer, manifest_of, manifest_path
from functions.core.model import BlobVersion, IdempotencyToken, RunKind, RunState, Stage
from functions.core.parameters import MAX_PARAMETERS_BYTES, size_of
from functions.core.pipelines import CONTROL_CONTAINER
from functions.core.reasons import SkipReason
from functions.core.scores import WantedScores
from functions.core.tokens import arrival_id_of, token_for

__all__ = ["Frozen", "freeze", "must_publish_scores", "parameters_of", "token_of", "wanted_scores_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A run that is ready to be written down, with the manifest that it points to."""

    run: Run
    manifest: InputManifest


def freeze(start: StartRun, files: Sequence[BlobVersion], situation: Situation, *, now: datetime) -> Frozen | Skip:
    """Return the run with its files, or why there is none.

    Manifest and token follow from the decision and the files alone, not from `now`: whoever repeats this after a
    crash writes the same bytes.

    Args:
        start: The decision.
        files: What the run reads; of an `ArrivalsInput` the arrivals' own blobs, else what storage has now.
        situation: As it was for the decision.
        now: Goes into the run's created_at only.
    """
    pipeline = start.pipeline
    if not files:
        is_training = pipeline.kind is RunKind.TRAINING
        return Skip(reason=SkipReason.NO_TRAINING_DATA if is_training else SkipReason.NO_INPUT, pipeline=pipeline.key)
    arrivals = start.input.arrivals if isinstance(start.input, ArrivalsInput) else ()
    arrived = {arrival.id for arrival in arrivals}
    by_id = {arrival_id_of(blob): blob for blob in files}
    manifest = manifest_of(
        run_id=start.run_id,
        pipeline=pipeline.key,
        kind=pipeline.kind,
        created_at=start.cause.at,
        files=tuple(
            ManifestFile(blob=blob, arrival_id=arrival_id if arrival_id in arrived else None)
            for arrival_id, blob in by_id.items()
        ),
        consignment=start.consignment,
        replaces=start.replaces if start.consignment else None,
    )
    base = f"https://{situation.account}.blob.core.windows.net"
    output_url = ""
    if pipeline.output is not None:
        place = f"{pipeline.output.container}/{pipeline.output.prefix}"
        output_url = f"{base}/{place}batch={manifest.batch_id}/model_version={start.model_version}"
    run = Run(
        id=start.run_id,
        pipeline=pipeline.key,
        kind=pipeline.kind,
        job=pipeline.job,
        environment=situation.environment,
        state=RunState.DECIDED,
        cause=start.cause,
        stages=start.stages,
        parameters=start.parameters,
        model_name=pipeline.model_name,
        model_version=start.model_version,
        batch_id=manifest.batch_id,
        output_url=output_url,
        created_at=now,
        updated_at=now,
        max_attempts=pipeline.max_attempts,
        arrivals=tuple(arrival.id for arrival in arrivals)[:ARRIVALS_KEPT],
        arrival_count=len(arrivals),
        file_count=len(manifest.files),
        manifest=ManifestPointer(
            url=f"{base}/{CONTROL_CONTAINER}/{manifest_path(pipeline.key, start.run_id)}", sha256=manifest.sha256()
        ),
        traceparent=start.traceparent,
        config_version=start.config_version,
        consignment=start.consignment,
        replaces=start.replaces,
        history=(Change(state=RunState.DECIDED.value, at=now, note=start.cause.kind.value),),
    )
    return Frozen(run=run, manifest=manifest)


def token_of(run: Run) -> IdempotencyToken:
    """Return the token of the run's current attempt: the persisted one if there is one, else what it will be."""
    if run.token is not None:
        return run.token
    return token_for(
        environment=run.environment,
        run_id=run.id,
        attempt=run.attempt,
        job=run.job,
        stages=run.stages,
        parameters=run.parameters,
        model_version=run.model_version,
        manifest_sha256="" if run.manifest is None else run.manifest.sha256,
    )


def parameters_of(run: Run) -> dict[str, str]:
    """Return the job parameters of the run's current attempt: all of the job's but `release`, which it knows itself.

    Raises:
        ParametersTooLargeError: They exceed the limit.
    """
    parameters = {
        "run_id": run.id,
        "attempt": str(run.attempt),
        "token": token_of(run),
        "pipeline": run.pipeline,
        "kind": run.kind.value,
        "environment": run.environment,
        "manifest_url": "" if run.manifest is None else run.manifest.url,
        "manifest_sha256": "" if run.manifest is None else run.manifest.sha256,
        "batch_id": run.batch_id,
        "model_name": run.model_name,
        "model_version": run.model_version or "",
        "output_url": run.output_url,
        "traceparent": run.traceparent or "",
        **{stage.value: "true" if is_on else "false" for stage, is_on in run.stages.items()},
        **run.parameters,
    }
    size_bytes = size_of(parameters)
    if size_bytes > MAX_PARAMETERS_BYTES:
        raise ParametersTooLargeError(size_bytes, MAX_PARAMETERS_BYTES)
    return parameters


def must_publish_scores(run: Run) -> bool:
    """Return whether the run is done only when its scores are published."""
    return run.kind is RunKind.SCORING and run.stages.get(Stage.PUBLISH, False)


def wanted_scores_of(run: Run) -> WantedScores:
    """Return what the scores manifest of a run must agree with."""
    return WantedScores(
        run_id=run.id,
        attempt=run.attempt,
        pipeline=run.pipeline,
        batch_id=run.batch_id,
        manifest_url="" if run.manifest is None else run.manifest.url,
        manifest_sha256="" if run.manifest is None else run.manifest.sha256,
        file_count=run.file_count,
        model_name=run.model_name,
        model_version=run.model_version or "",
        output_url=run.output_url,
        decided_at=run.created_at,
    )
