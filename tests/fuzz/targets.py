"""Feeds an input to what it is for, and says what must never happen there."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from functions.adapters.storage import StorageAccount
from functions.adapters.telemetry import SpanTelemetry
from functions.core.errors import InvalidConfigurationError, InvalidSettingsError
from functions.core.ledger_rows import arrival_from_row
from functions.core.model import JobKey, Outcome
from functions.core.pipelines_toml import parse_pipelines
from functions.settings import parse_settings
from tests.fuzz.app import SECRET, Answer, App, Log, put_behind
from tests.fuzz.case import Case
from tests.fuzz.examples import make_world, url_of
from tests.support.control_plane import ACCOUNT, World

__all__ = ["Stage", "WrongError", "targets_of"]

_ANSWERS: Final = frozenset({200, 202, 204, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429})
_REFUSALS: Final = frozenset({400, 404, 413, 415, 422})
_JOBS: Final = (JobKey("training"), JobKey("scoring"))


class WrongError(AssertionError):
    """The control plane did what it must never do."""


@dataclass(slots=True)
class Stage:
    """What inputs act upon: the app, a control plane in memory behind it, and its log."""

    app: App
    log: Log
    world: World

    @classmethod
    def set_up(cls, app: App, log: Log) -> "Stage":
        """Return a fresh one, with a run under way."""
        stage = cls(app, log, make_world())
        put_behind(replace(stage.world.plane, telemetry=SpanTelemetry(None)))  # the real one: its log lines count
        log.take()
        return stage

    def play(self, case: Case) -> None:
        """Feed one input; raises WrongError, or whatever the control plane lets escape."""
        targets_of(self.app)[case.target](self, case)
        _search(self.log.take(), "a log line")


def targets_of(app: App) -> Mapping[str, Callable[[Stage, Case], None]]:
    """Return what can be fed, by name."""
    return {
        **{f"queue:{name}": partial(_receive, name) for name in app.queues},
        **{f"http:{name}": partial(_answer, name) for name in app.http},
        "toml": _read_toml,
        "settings": _read_settings,
        "blob_name": _record_blob,
    }


def _receive(name: str, stage: Stage, case: Case) -> None:
    """A message is handled, or kept with the reason; it is never refused to the host, and never lost."""
    world = stage.world
    before = _kept(world)
    stage.app.receive(name, case.get("message") or b"")
    if name == "arrivals" and _kept(world) == before:
        raise WrongError("an arrival was neither recorded nor quarantined")
    if name.endswith("_poison") and _kept(world)[1] == before[1] and not world.quarantine.documents:
        raise WrongError("a poison message was not kept")
    _check_success(world)


def _kept(world: World) -> tuple[int, int]:
    """Return what the ledger counts of deliveries, and what quarantine has been asked to keep."""
    counts = world.tables.calls.counts
    arrivals = counts["tables.arrivals.insert"] + counts["tables.arrivals.replace"]
    return arrivals, world.quarantine.calls.counts["quarantine.keep"]


def _check_success(world: World) -> None:
    """I7: whatever was claimed, only what Databricks and the scores confirm is completed."""
    for row, _ in world.tables.rows["runs"].values():
        if row.get("outcome") == Outcome.COMPLETED.value and row["id"] not in _confirmed(world):
            raise WrongError(f"{row['id']} completed on a claim alone")


def _confirmed(world: World) -> set[str]:
    return {
        run.parameters["run_id"]
        for run in world.databricks_runs()
        if run.status.verdict.is_claim and world.scores_of(run) is not None
    }


def _run_versions(world: World) -> dict[tuple[str, str], str]:
    return {place: version for place, (_, version) in world.tables.rows["runs"].items()}


def _answer(name: str, stage: Stage, case: Case) -> None:
    """A request is answered with a status that says whose mistake it is; a refused one changes nothing.

    One that meets what is about to change is told to come again, and when.
    """
    before = _run_versions(stage.world)
    answer = stage.app.answer(name, case)
    is_for_later = answer.status == 503 and "in a moment" in answer.body.decode() and "Retry-After" in answer.headers
    if answer.status not in _ANSWERS and not is_for_later:
        raise WrongError(f"the answer is {answer.status}: {answer.body[:300]!r}")
    _search(answer.body.decode(), "an answer")
    _search(repr(answer.headers), "an answer's headers")
    _check_headers(answer)
    document = json.loads(answer.body or b"null", parse_constant=_refuse_constant)
    if answer.status >= 400 and not (isinstance(document, dict) and document.get("error")):
        raise WrongError(f"a {answer.status} without a reason: {document!r}")
    if answer.status in _REFUSALS and _run_versions(stage.world) != before:
        raise WrongError(f"a request was refused with {answer.status}, and changed a run")
    _check_success(stage.world)


def _check_headers(answer: Answer) -> None:
    for name, value in answer.headers.items():
        if not (name + value).isascii() or not (name + value).isprintable():
            raise WrongError(f"header {name!r} is {value!r}")


def _refuse_constant(name: str) -> None:
    raise WrongError(f"an answer holds {name}, which is no JSON")


def _read_toml(stage: Stage, case: Case) -> None:
    """A `pipelines.toml` is read, or every mistake in it is named; what was read can be worked with."""
    del stage
    try:
        pipelines = parse_pipelines(case.get("file") or b"", file="pipelines.toml", known_jobs=_JOBS)
    except InvalidConfigurationError as error:
        if not error.problems or not str(error):
            raise WrongError("refused without a reason") from error
        return
    now, later = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 4, 1, 12, tzinfo=UTC)
    for pipeline in pipelines.pipelines:
        for schedule in pipeline.schedules:
            timetable = schedule.timetable
            timetable.last_until(now)
            timetable.first_after(now)
            timetable.latest(now, later, limit=100)
            timetable.earliest(now, later, limit=100)


def _read_settings(stage: Stage, case: Case) -> None:
    """Settings are read, or every mistake in them is named without its value; what was read can be used."""
    del stage
    environ = {name: value.decode(errors="replace") for name, value in case.parts}
    try:
        settings = parse_settings(environ, app_dir=Path("app"))
    except InvalidSettingsError as error:
        _search(str(error) + repr(error), "a mistake in the settings")
        if not error.problems:
            raise WrongError("refused without a reason") from error
        return
    _search(f"{settings!r} {settings!s} {settings.storage!r}", "the settings as text")
    storage = StorageAccount(
        connection_string=settings.storage.connection_string,
        account=None if settings.storage.connection_string else settings.storage.account,
    )
    if storage.account != settings.storage.account:
        raise WrongError(f"two accounts: {storage.account!r}, {settings.storage.account!r}")
    if settings.storage.connection_string is not None:
        for client in (storage.tables, storage.queues, storage.blobs()):
            if client.account_name != settings.storage.account:
                raise WrongError(f"a client of account {client.account_name!r}")


def _record_blob(stage: Stage, case: Case) -> None:
    """A legal name is recorded exactly as it is, whatever it looks like, in both schemas."""
    name = case.text("name").replace("\0", "")[:900]
    path = f"flights/new/{name}"
    for number, schema in enumerate(("EventGrid", "CloudEvent")):
        etag = f"0x{sha256(path.encode()).hexdigest()[:12]}{number}"
        message = _blob_event(path, etag, is_cloud_event=schema == "CloudEvent")
        quarantined = len(stage.world.quarantine.documents)
        stage.app.receive("arrivals", json.dumps(message).encode())
        rows = [values for values, _ in stage.world.tables.rows["arrivals"].values() if values["etag"] == etag]
        found = [arrival_from_row(values).blob.path for values in rows]
        if found != [path] or len(stage.world.quarantine.documents) != quarantined:
            raise WrongError(f"{path!r} is recorded as {found!r}")


def _blob_event(path: str, etag: str, *, is_cloud_event: bool) -> dict[str, object]:
    resource = f"/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
    data = {"api": "PutBlob", "eTag": etag, "contentLength": 10, "blobType": "BlockBlob", "url": url_of(path)}
    event: dict[str, object] = {
        "id": f"e-{etag}",
        "subject": f"/blobServices/default/containers/input/blobs/{path}",
        "data": data,
    }
    kind, time = "Microsoft.Storage.BlobCreated", "2026-03-01T12:00:00Z"
    if is_cloud_event:
        return {**event, "specversion": "1.0", "type": kind, "source": resource, "time": time}
    return {**event, "topic": resource, "eventType": kind, "eventTime": time, "dataVersion": "", "metadataVersion": "1"}


def _search(text: str, where: str) -> None:
    if SECRET in text:
        raise WrongError(f"a secret is in {where}: {text[:300]!r}")
