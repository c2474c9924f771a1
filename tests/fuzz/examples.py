"""Holds valid inputs of every kind, from which the fuzzing starts."""

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain
from typing import Final
from urllib.parse import quote

from functions.core.endings import announce_stall
from functions.core.ledger import Run
from functions.core.model import BlobVersion, JobKey, ModelSignal, Outcome, SignalType
from functions.core.pipelines import Pipelines
from functions.core.pipelines_toml import parse_pipelines
from functions.core.signals import signal_to_document
from functions.core.tokens import arrival_id_of
from functions.core.work import WorkItem, WorkKind
from tests.fuzz.app import SETTINGS, App
from tests.fuzz.case import Case
from tests.support.control_plane import (
    ACCOUNT,
    MODEL,
    PIPELINES_TOML,
    SCORING,
    TRAINING,
    World,
    blob_message,
    make_blob,
)

__all__ = ["BLOB_NAMES", "TOML", "examples_of", "make_world"]

TOML: Final = (
    (
        PIPELINES_TOML.replace("QUIET", "30")
        .replace("MAX_WAIT", "90")
        .replace("MAX_FILES", "1000")
        .replace("POLICY", "parallel")
        .replace("MAX_ACTIVE", "100")
    ).encode()
    + b"""suffix = ".parquet"
min_size_bytes = 1
max_size_bytes = 1000000
content_types = ["application/octet-stream"]

[pipelines.flight_delay_scoring.budget]
max_runs_per_day = 100

[pipelines.flight_delay_scoring.sla]
stalled_after_minutes = 60

[[pipelines.flight_delay_scoring.schedules]]
name = "nightly"
cron = "0 30 2 * * MON-FRI"
timezone = "Europe/Berlin"
missed = "run"

[[pipelines.flight_delay_training.signals]]
name = "drift"
event_type = "tidegate.model.drift_detected.v1"
cooldown_hours = 24
threshold = { metric = "psi", at_least = 0.2 }

[limits]
max_in_flight = 10
max_starts_per_second = 5
max_runs_per_day = 1000
"""
)
BLOB_NAMES: Final = (
    *("2013-07.parquet", "a b.parquet", "a#b?.parquet", "100%.parquet", "%41.parquet", "é.parquet", "日本/x.parquet"),
    *("..parquet", "a/../b.parquet", "a//b.parquet", "~.parquet", "a\\b.parquet", "'\".parquet", "\U0001f600.parquet"),
    *("x" * 1000 + ".parquet", "+.parquet", "a&b=c.parquet", "[x]{y}.parquet", " .parquet", "\u202e.parquet"),
)
_NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
_URL: Final = make_blob().url
_CLOUD_EVENT: Final = {
    "specversion": "1.0",
    "type": "Microsoft.Storage.BlobCreated",
    "source": f"/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}",
    "subject": f"/blobServices/default/containers/input/blobs/{make_blob().path}",
    "id": "event-2",
    "time": "2026-03-01T12:00:00.1234567Z",
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    "data": {
        "api": "PutBlockList",
        "eTag": "0x8DC3A",
        "contentType": "application/octet-stream",
        "contentLength": 1000,
        "contentOffset": 0,
        "blobType": "BlockBlob",
        "url": _URL,
        "sequencer": "00000000000000000000000000015508000000000005101c",
        "storageDiagnostics": {"batchId": "b"},
    },
}
_SIGNAL: Final = ModelSignal(
    event_id="drift-1",
    source="/monitors/flights",
    type=SignalType.DRIFT_DETECTED,
    time=_NOW,
    environment="local",
    model_name=MODEL,
    model_version="7",
    window_start=_NOW - timedelta(days=7),
    window_end=_NOW,
    metrics={"psi": 0.3},
    reason="drift of distance",
    traceparent=None,
)
# What App Service says of a caller who has signed in.
_PRINCIPAL: Final = base64.b64encode(
    json.dumps(
        {
            "auth_typ": "aad",
            "name_typ": "name",
            "role_typ": "roles",
            "claims": [{"typ": "roles", "val": "Tidegate.Operator"}, {"typ": "preferred_username", "val": "a@b.c"}],
        }
    ).encode()
)
_REQUESTS: Final = (
    {"pipeline": SCORING, "files": [_URL]},
    {"pipeline": SCORING, "files": [_URL], "stages": {"publish": True}, "parameters": {}},
    {"pipeline": TRAINING, "parameters": {"learning_rate": "0.1"}},
)
_DEAD_LETTER: Final = "poison/2026-03-01/arrivals-0123456789abcdef0123456789abcdef.json"
_QUERIES: Final = (
    b"",
    b"dry_run=1",
    b"dry_run=false&pipeline=flight_delay_scoring",
    b"since=2026-02-01T00:00:00Z&limit=10&pipeline=flight_delay_scoring",
    b"limit=1000&state=ended&model=main.tidegate.flight_delay&blob=input/flights/new/2013-07.parquet",
    b"at=2026-03-01T12:00:00Z&state=held",
    f"blob={quote(_URL, safe='')}&limit=1".encode(),
)


@cache
def _pipelines() -> Pipelines:
    """Return the example's pipelines, without the window of the files' one."""
    text = TOML.replace(b"quiet_seconds = 30, max_wait_seconds = 90", b"quiet_seconds = 0")
    return parse_pipelines(text, file="pipelines.toml", known_jobs=[JobKey("training"), JobKey("scoring")])


def make_world() -> World:
    """Return a control plane with one run that Databricks is running."""
    world = World(pipelines=_pipelines())
    world.inputs.put(make_blob())
    world.deliver(make_blob())
    assert len(world.runs()) == 1
    return world


def examples_of(app: App) -> list[Case]:
    """Return valid inputs of every target; those of a function are made from how it is registered."""
    (run,), (databricks_run,) = (world := make_world()).runs(), world.databricks_runs()
    completions = [world.completion_of(databricks_run, outcome).to_json().encode() for outcome in Outcome]
    completions.append(base64.b64encode(completions[0]))
    completions.append(announce_stall(run, now=world.clock.now(), after_minutes=1).to_json().encode())
    completions.append(json.dumps(signal_to_document(_SIGNAL)).encode())
    messages = {
        "arrivals": _arrivals(),
        "completions": completions,
        "dispatch": [
            WorkItem(kind=WorkKind.ADVANCE_RUN, pipeline=SCORING, run_id=run.id).to_json().encode(),
            WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=SCORING, tries=3).to_json().encode(),
            WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=SCORING, consignment="2026-03").to_json().encode(),
            WorkItem(kind=WorkKind.BACKFILL, pipeline=SCORING, backfill_id="0" * 16).to_json().encode(),
        ],
    }
    everything = [message for found in messages.values() for message in found]
    cases = [
        Case.of(f"queue:{name}", {"message": message})
        for name in app.queues
        for message in messages.get(name.removesuffix("_poison"), everything)
    ]
    for name, trigger in app.http.items():
        cases += _requests(name, str(trigger["route"]), is_read="GET" in str(trigger["methods"]), run=run)
    cases += [Case.of("toml", {"file": TOML})]
    cases += [Case.of("settings", {name: value.encode() for name, value in SETTINGS.items()})]
    cases += [Case.of("blob_name", {"name": name.encode()}) for name in BLOB_NAMES]
    return cases


def _requests(name: str, route: str, *, is_read: bool, run: Run) -> list[Case]:
    """Return valid requests to a function; one that nobody has described gets the bodies of all others."""
    arrival = arrival_id_of(make_blob())
    bodies: dict[str, list[dict[str, object]]] = {
        "runs": [dict(request) for request in _REQUESTS],
        "replays": [{"run": run.id}, {"arrival": arrival, "at": "2026-03-01T12:00:00Z"}, {"dead_letter": _DEAD_LETTER}],
        "backfills": [
            {"pipeline": SCORING, "prefix": "flights/new/", "since": "2026-02-01T00:00:00Z"},
            {"pipeline": SCORING, "until": "2026-02-27T00:00:00Z", "yes": True, "per_minute": 60, "again": True},
            {"pipeline": SCORING, "stop": True},
        ],
        "pipelines/{key}/pause": [{}, {"by": "a person", "reason": "maintenance of the workspace"}],
        "pipelines/{key}/resume": [{"by": "a person"}],
        "pipelines/{key}/allow": [{"runs_today": 3, "by": "a person"}],
    }
    ids = {"runs": run.id, "arrivals": arrival, "backfills": "0" * 16}
    parts = {
        "header.idempotency-key": b"key-1",
        "header.traceparent": (run.traceparent or "").encode(),
        "header.x-ms-client-principal": _PRINCIPAL,
    }
    if "{id}" in route:
        parts["route.id"] = ids.get(route.split("/", 1)[0], run.id).encode()
    if "{key}" in route:
        parts["route.key"] = SCORING.encode()
    described = [{}] if is_read or route.startswith("runs/") else bodies.get(route, [*chain(*bodies.values())])
    return [
        Case.of(f"http:{name}", {"query": query, "body": b"" if is_read else json.dumps(body).encode(), **parts})
        for query in _QUERIES
        for body in described
    ]


def _arrivals() -> list[bytes]:
    blob = make_blob("other.parquet", etag="0x8DC3B", sequencer="0" * 47 + "1")
    plain = base64.b64decode(blob_message(blob))
    deleted = plain.replace(b"BlobCreated", b"BlobDeleted")
    odd = BlobVersion(account=ACCOUNT, container="input", path="flights/new/a b#%41é.parquet", etag="0x1", size_bytes=1)
    cloud = json.dumps(_CLOUD_EVENT).encode()
    return [plain, b"[" + plain + b"]", blob_message(odd).encode(), deleted, cloud, base64.b64encode(cloud)]


def url_of(path: str) -> str:
    """Return the URL of an input blob, percent-encoded as storage does."""
    return f"https://{ACCOUNT}.blob.core.windows.net/input/{quote(path, safe='/~')}"
