"""Decides when the files of one folder become one run together, and what becomes of those that come late."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from functions.core.batching import CLOCKS_DIFFER
from functions.core.decided import Hold
from functions.core.ledger import Arrival
from functions.core.manifest import MAX_MANIFEST_BYTES, fits_into_a_manifest
from functions.core.model import BlobVersion, PipelineKey, RunId
from functions.core.pipelines import LateFiles, OnTimeout, Pipeline, Pipelines, ReadinessKind
from functions.core.readiness_toml import MOST_FILES
from functions.core.reasons import HoldReason
from functions.core.tokens import run_id_of

__all__ = [
    "Complete",
    "Consignment",
    "Facts",
    "Late",
    "consignment_of",
    "find_seal",
    "judge_consignment",
    "newest_of_each_path",
    "run_id_of_consignment",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consignment:
    """What the ledger keeps of a folder whose files were frozen, or are about to be."""

    pipeline: PipelineKey
    place: str  # container/folder/
    run_id: RunId  # of its present version
    version: int = 1
    replaces: RunId | None = None  # the run of the version before
    # Whether that run was written. A crash may leave this out, then the run's entry tells; retention may remove that.
    is_frozen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a consignment's readiness depends on beside its held arrivals."""

    sealed_at: datetime | None = None  # when the newest marker came; None: there is none
    listed: frozenset[str] | None = None  # the paths in the manifest that storage has now; None: none that can be read
    problem: str = ""  # why it cannot be read
    frozen: tuple[BlobVersion, ...] | None = None  # files of the version before; None: there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """These arrivals, with those files of the version before that are still there, make a run."""

    arrivals: tuple[Arrival, ...]
    kept: tuple[BlobVersion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """These arrivals came after their consignment was frozen, and shall not be read."""

    arrivals: tuple[Arrival, ...]


def consignment_of(container: str, path: str) -> str:
    """Return the place whose files belong together: the folder in which the blob lies.

    >>> consignment_of("input", "flights/new/2013-07/part-0.parquet")
    'input/flights/new/2013-07/'
    """
    folder, slash, _ = path.rpartition("/")
    return f"{container}/{folder}{slash}"


def run_id_of_consignment(
    pipeline: PipelineKey, place: str, version: int, arrivals: Iterable[Arrival], *, first_event_time: datetime
) -> RunId:
    """Return the run of one version of a consignment; once it is written down, it stays even if more files join."""
    ids = sorted(arrival.id for arrival in arrivals)
    return run_id_of(pipeline, first_event_time, "consignment", place, str(version), *ids)


def find_seal(blob: BlobVersion, pipelines: Pipelines) -> Pipeline | None:
    """Return the pipeline that waits for this very blob to say that the files beside it are complete, or None."""
    folder, slash, name = blob.path.rpartition("/")
    for pipeline in pipelines.pipelines:
        if (
            name
            and name == pipeline.readiness.name
            and any(
                route.container == blob.container and f"{folder}{slash}".startswith(route.prefix)
                for route in pipeline.routes
            )
        ):
            return pipeline
    return None


def newest_of_each_path(arrivals: Iterable[Arrival]) -> dict[str, Arrival]:
    """Return one arrival a path: where sequencers have not decided, the one whose event is the latest."""
    newest: dict[str, Arrival] = {}
    for arrival in sorted(arrivals, key=lambda item: (item.event_time, item.recorded_at, item.id)):
        newest[arrival.blob.path] = arrival
    return newest


def judge_consignment(
    pipeline: Pipeline, held: Sequence[Arrival], facts: Facts, *, now: datetime
) -> Complete | Late | Hold:
    """Return what the held arrivals of one consignment come to now.

    A version after the first needs no seal: a late file asks for it, and with a manifest all that it lists.
    """
    late = _late(pipeline, held, facts)
    if late:
        return Late(arrivals=late)
    newest = newest_of_each_path(held)
    wanted = newest
    if facts.listed is not None:
        wanted = {path: arrival for path, arrival in newest.items() if path in facts.listed}
    count = len({*wanted, *(blob.path for blob in facts.frozen or ())})
    if count > MOST_FILES:
        return _hold(pipeline, HoldReason.TOO_MANY_FILES, detail=f"{count}, at most {MOST_FILES}")
    if not fits_into_a_manifest([*(arrival.blob for arrival in wanted.values()), *_kept(wanted, facts)]):
        detail = f"{count}, whose names are longer than the {MAX_MANIFEST_BYTES >> 20} MiB of one manifest"
        return _hold(pipeline, HoldReason.TOO_MANY_FILES, detail=detail)
    lack = _lack(pipeline, wanted, facts)
    wait_s: float | None
    if lack is None:
        wait_s = _until_quiet_s(pipeline, [*newest.values()], facts.sealed_at, now)
        reason, detail = HoldReason.WINDOW_OPEN, ""
    else:
        (reason, detail), wanted = lack, newest
        wait_s = _until_timeout_s(pipeline, held, now)
    if wait_s is not None and wait_s <= 0:
        return Complete(arrivals=tuple(wanted.values()), kept=_kept(wanted, facts))
    return _hold(pipeline, reason, wait_s=wait_s or 0.0, detail=detail)


def _late(pipeline: Pipeline, held: Sequence[Arrival], facts: Facts) -> tuple[Arrival, ...]:
    if facts.frozen is None or pipeline.readiness.late is LateFiles.NEW_VERSION:
        return ()
    return tuple(arrival for arrival in held if not arrival.is_replayed)  # a person wants the others in


def _lack(pipeline: Pipeline, wanted: dict[str, Arrival], facts: Facts) -> tuple[HoldReason, str] | None:
    """Return what keeps the consignment from being complete, or None if nothing does."""
    match pipeline.readiness.kind:
        case ReadinessKind.MANIFEST:
            if facts.listed is None:
                reason = HoldReason.BAD_MANIFEST if facts.problem else HoldReason.NOT_READY
                return reason, facts.problem or f"no {pipeline.readiness.name!r} yet"
            known = {*wanted, *(blob.path for blob in facts.frozen or ())}
            missing = sorted(facts.listed - known)
            if missing:
                names = ", ".join(repr(path.rpartition("/")[2][:80]) for path in missing[:3])
                return HoldReason.NOT_READY, f"{len(missing)} of {len(facts.listed)} missing: {names}"
            return None if wanted else (HoldReason.NOT_LISTED, "")
        case ReadinessKind.MARKER if facts.frozen is None and facts.sealed_at is None:
            return HoldReason.NOT_READY, f"no {pipeline.readiness.name!r} yet"
        case ReadinessKind.COUNT if facts.frozen is None and len(wanted) < pipeline.readiness.count:
            return HoldReason.NOT_READY, f"{len(wanted)} of {pipeline.readiness.count} files"
        case _:
            return None


def _until_quiet_s(pipeline: Pipeline, held: Sequence[Arrival], sealed_at: datetime | None, now: datetime) -> float:
    seals = [] if sealed_at is None or sealed_at > now + CLOCKS_DIFFER else [sealed_at]
    latest = max([*(_came_at(arrival, now) for arrival in held), *seals])
    return (latest + timedelta(seconds=pipeline.batching.quiet_seconds) - now).total_seconds()


def _until_timeout_s(pipeline: Pipeline, held: Sequence[Arrival], now: datetime) -> float | None:
    """Return how long an incomplete consignment still waits; None: until it is complete."""
    if pipeline.readiness.on_timeout is OnTimeout.HOLD:
        return None
    opened = min(_came_at(arrival, now) for arrival in held)
    return (opened + timedelta(seconds=pipeline.batching.max_wait_seconds) - now).total_seconds()


def _came_at(arrival: Arrival, now: datetime) -> datetime:
    """Return when it was recorded or, if a clock did that which was far ahead, when storage says that it happened."""
    return arrival.recorded_at if arrival.recorded_at <= now + CLOCKS_DIFFER else arrival.event_time


def _kept(wanted: dict[str, Arrival], facts: Facts) -> tuple[BlobVersion, ...]:
    """Return the files of the version before that no held arrival replaces, and that a manifest still lists."""
    return tuple(
        blob
        for blob in facts.frozen or ()
        if blob.path not in wanted and (facts.listed is None or blob.path in facts.listed)
    )


def _hold(pipeline: Pipeline, reason: HoldReason, *, wait_s: float = 0.0, detail: str = "") -> Hold:
    return Hold(pipeline=pipeline.key, reason=reason, wait_s=wait_s, detail=detail)
