"""Holds valid inputs of every kind, from which the fuzzing starts."""

import base64
import json
from typing import Final
from urllib.parse import quote

from functions.core.model import BlobVersion, Outcome
from tests.fuzz.app import SETTINGS, App
from tests.fuzz.case import Case
from tests.support.control_plane import (
    ACCOUNT,
    PIPELINES_TOML,
    SCORING,
    TRAINING,
    World,
    blob_message,
    make_blob,
    make_pipelines,
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
_PIPELINES: Final = make_pipelines()
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
_REQUESTS: Final = (
    {"pipeline": SCORING, "files": [_URL]},
    {"pipeline": SCORING, "files": [_URL], "stages": {"publish": True}, "parameters": {}},
    {"pipeline": TRAINING, "parameters": {"learning_rate": "0.1"}},
)
_QUERIES: Final = (
    b"",
    b"dry_run=1",
    b"dry_run=false&pipeline=flight_delay_scoring",
    b"since=2026-02-01T00:00:00Z&limit=10&pipeline=flight_delay_scoring",
    b"limit=1000&state=ended&cursor=x&prefix=flights/&from=2026-01-01T00:00:00Z&until=2026-03-01T00:00:00Z",
)


def make_world() -> World:
    """Return a control plane with one run that Databricks is running."""
    world = World(pipelines=_PIPELINES)
    world.inputs.put(make_blob())
    world.deliver(make_blob())
    assert len(world.runs()) == 1
    return world


def examples_of(app: App) -> list[Case]:
    """Return valid inputs of every target; those of a function are made from how it is registered."""
    (run,), (databricks_run,) = (world := make_world()).runs(), world.databricks_runs()
    completions = [world.completion_of(databricks_run, outcome).to_json().encode() for outcome in Outcome]
    completions.append(base64.b64encode(completions[0]))
    messages = {
        "arrivals": _arrivals(),
        "completions": completions,
        "dispatch": [
            json.dumps({"kind": kind, "pipeline": SCORING, "run_id": of, "tries": 0, "traceparent": None}).encode()
            for kind, of in (("advance_run", run.id), ("close_batch", None))
        ],
    }
    everything = [message for found in messages.values() for message in found]
    cases = [
        Case.of(f"queue:{name}", {"message": message})
        for name in app.queues
        for message in messages.get(name.removesuffix("_poison"), everything)
    ]
    for name, trigger in app.http.items():
        route = {"route.id": run.id.encode()} if "{" in str(trigger["route"]) else {}
        for query in _QUERIES:
            bodies = [json.dumps(body).encode() for body in _REQUESTS] if "POST" in str(trigger["methods"]) else [b""]
            for body in bodies:
                headers = {"header.idempotency-key": b"key-1", "header.traceparent": run.traceparent.encode()}  # type: ignore[union-attr] # the in-memory telemetry gives one
                cases.append(Case.of(f"http:{name}", {"query": query, "body": body, **route, **headers}))
    cases += [Case.of("toml", {"file": TOML})]
    cases += [Case.of("settings", {name: value.encode() for name, value in SETTINGS.items()})]
    cases += [Case.of("blob_name", {"name": name.encode()}) for name in BLOB_NAMES]
    return cases


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
