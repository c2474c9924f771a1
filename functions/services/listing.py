"""Finds runs and arrivals for people, reading bounded parts of the ledger's indexes."""

from datetime import UTC, datetime, timedelta
from typing import Final

from functions.core.arrival_events import event_of
from functions.core.decided import Situation
from functions.core.decisions import decide
from functions.core.errors import InvalidRequestError, NotFoundError, Problem
from functions.core.explain import explain
from functions.core.ledger import Arrival, Run
from functions.core.listing import ArrivalFilter, RunFilter, runs_named_by
from functions.core.model import ArrivalId, PipelineKey, RunId
from functions.core.pipelines import Pipelines
from functions.core.signals import LONGEST_AHEAD
from functions.core.tokens import pipeline_of_run
from functions.ports import Entry, RunLedger
from functions.services.left_behind import pipelines_that_were

__all__ = [
    "explain_arrival",
    "find_arrival",
    "find_run",
    "list_arrivals",
    "list_arrivals_of_blob",
    "list_runs",
    "list_runs_of_blob",
]

# A signal may be about a window that is not over; and clocks differ a little, and a slot may fire a moment early.
_LISTED_AHEAD: Final = LONGEST_AHEAD + timedelta(days=1)
_LISTED_BACK_TO: Final = timedelta(days=366)
_LONGEST_LISTED_BACK_TO: Final = timedelta(days=5 * 366)  # the ledger is read month by month
_ID_LOOKED_BACK_TO: Final = timedelta(days=31)
_LAST_MOMENT: Final = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)  # after which there is another one


def list_runs(
    ledger: RunLedger,
    pipelines: Pipelines,
    wanted: RunFilter,
    *,
    pipeline: PipelineKey | None,
    since: datetime | None,
    limit: int,
    now: datetime,
) -> list[Run]:
    """Return runs, newest first.

    Raises:
        UnknownPipelineError: There is no such pipeline.
        InvalidRequestError: `since` is longer ago than the ledger is read.
    """
    keys = _keys(ledger, pipelines, pipeline)
    _check_since(since, now)
    until = now + _LISTED_AHEAD
    since = since or now - _LISTED_BACK_TO
    return list(ledger.runs(keys, since=since, until=until, limit=limit, where=wanted.wants))


def list_runs_of_blob(
    ledger: RunLedger,
    place: tuple[str, str, str],
    wanted: RunFilter,
    *,
    pipeline: PipelineKey | None,
    since: datetime | None,
    limit: int,
) -> list[Run]:
    """Return the runs that any version of a blob (account, container, path) was ever assigned to, the latest first."""
    arrivals = [entry.value for entry in ledger.arrivals_of_path(*place)]
    found: list[Run] = []
    for run_id in runs_named_by(arrivals):
        run = find_run(ledger, run_id)
        if run is None or pipeline not in {None, run.pipeline} or not wanted.wants(run):
            continue
        if since is None or run.cause.at >= since:
            found.append(run)
    return found[:limit]


def find_run(ledger: RunLedger, run_id: RunId) -> Run | None:
    """Return the run that an arrival names, None if the ledger has forgotten it or no run can be called so."""
    try:
        pipeline_of_run(run_id)
    except ValueError:
        return None
    entry = ledger.get_run(run_id)
    return None if entry is None else entry.value


def list_arrivals(
    ledger: RunLedger,
    pipelines: Pipelines,
    wanted: ArrivalFilter,
    *,
    are_outputs_wanted: bool,
    limit: int,
    now: datetime,
) -> list[Arrival]:
    """Return arrivals, the latest recorded first: of one pipeline, or of all and of none.

    What runs have written arrives too, many blobs a run, and starts nothing: it is listed on demand only.

    Raises:
        UnknownPipelineError: There is no such pipeline.
        InvalidRequestError: `since` is longer ago than the ledger is read.
    """
    keys: list[PipelineKey | None] = [*_keys(ledger, pipelines, wanted.pipeline)]
    _check_since(wanted.since, now)
    since, until = wanted.window(now)
    if wanted.pipeline is None:
        keys.append(None)

    def where(arrival: Arrival) -> bool:
        blob = arrival.blob
        is_output = pipelines.is_written_by_runs(blob.container, blob.path)
        return wanted.wants(arrival) and (are_outputs_wanted or not is_output)

    return list(ledger.arrivals(keys, since=since, until=until, limit=limit, where=where))


def list_arrivals_of_blob(
    ledger: RunLedger, place: tuple[str, str, str], wanted: ArrivalFilter, *, limit: int
) -> list[Arrival]:
    """Return every version of a blob (account, container, path) that arrived, the latest recorded first."""
    found = [entry.value for entry in ledger.arrivals_of_path(*place) if wanted.wants(entry.value)]
    return sorted(found, key=lambda arrival: arrival.recorded_at, reverse=True)[:limit]


def find_arrival(
    ledger: RunLedger, pipelines: Pipelines, arrival_id: ArrivalId, *, at: datetime | None, now: datetime
) -> Entry[Arrival]:
    """Return the arrival of an id: at once if it is said when it was recorded, else among those of the last month.

    Raises:
        NotFoundError: There is none.
    """
    since = now - _ID_LOOKED_BACK_TO if at is None else at
    until = now + timedelta(minutes=5) if at is None else min(at, _LAST_MOMENT) + timedelta(microseconds=1)
    keys: list[PipelineKey | None] = [*_keys(ledger, pipelines, None), None]
    found = ledger.arrivals(keys, since=since, until=until, limit=1, where=lambda arrival: arrival.id == arrival_id)
    entry = ledger.get_arrival(found[0].blob) if found else None
    if entry is None:
        of_late = "among those of the last 31 days; say with `at` when it was recorded"
        then = "recorded then; expected in `at` exactly the `recorded_at` that listings show"
        where = of_late if at is None else then
        raise NotFoundError(f"looking for arrival {arrival_id[:64]!r}", f"there is none {where}")
    return entry


def explain_arrival(arrival: Arrival, pipelines: Pipelines, *, environment: str, account: str) -> dict[str, object]:
    """Return what would be decided about an arrival if it came now, and which routes were tried for it."""
    situation = Situation(environment=environment, account=account)
    event = event_of(arrival)
    explanation = explain(event, decide(event, pipelines, situation), situation)
    return {"decision_now": explanation["decision"], "routes_tried": explanation["routes_tried"]}


def _keys(ledger: RunLedger, pipelines: Pipelines, wanted: PipelineKey | None) -> list[PipelineKey]:
    """Return the pipeline that is wanted, or all: what one has left behind is found although it is gone.

    Raises:
        UnknownPipelineError: There is no such pipeline, and never was.
    """
    if wanted is not None and wanted in pipelines.by_key:
        return [wanted]
    gone = sorted(pipelines_that_were(ledger) - set(pipelines.by_key))
    if wanted is None:
        return [*pipelines.by_key, *gone]
    return [wanted] if wanted in gone else [pipelines.get(wanted).key]


def _check_since(since: datetime | None, now: datetime) -> None:
    if since is not None and since < now - _LONGEST_LISTED_BACK_TO:
        raise InvalidRequestError([Problem("since", repr(since.isoformat()), "a time within the last five years")])
