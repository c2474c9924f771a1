"""Tests what each kind of storage event comes to in the ledger: both schemas, every api, renames, odd names."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from functions.adapters.ledger_layout import place_of
from functions.core.errors import StorageUnavailableError
from functions.core.ledger import Arrival
from functions.core.manifest import InputManifest
from functions.core.model import ArrivalSource, ArrivalState, BlobVersion, RunState
from functions.core.reasons import SkipReason
from functions.core.tokens import arrival_id_of
from functions.services.arrive import arrive
from tests.support.control_plane import ACCOUNT, World, blob_message, make_blob, make_pipelines
from tests.support.in_memory import Faults

FIXTURES = Path(__file__).parents[1] / "fixtures" / "storage_events"
PATH = "flights/new/2013-07.parquet"
# What becomes of each event that Azure documents (event schema of Blob Storage as an Event Grid source).
OUTCOMES = {
    "BlobCreated.PutBlob": "assigned",
    "BlobCreated.PutBlockList": "assigned",
    "BlobCreated.CopyBlob": "assigned",
    "BlobCreated.FlushWithClose": "assigned",
    "BlobCreated.SftpCommit": "assigned",
    "BlobRenamed.RenameFile": "assigned",
    "BlobRenamed.SftpRename": "assigned",
    "BlobCreated.CreateFile": "uncommitted_api",
    "BlobCreated.SftpCreate": "uncommitted_api",
    "BlobCreated.SftpWrite": "uncommitted_api",
    "BlobDeleted.DeleteBlob": "unsupported_event_type",
    "BlobDeleted.DeleteFile": "unsupported_event_type",
    "BlobDeleted.SftpRemove": "unsupported_event_type",
    "BlobTierChanged.SetBlobTier": "unsupported_event_type",
    "AsyncOperationInitiated.SetBlobTier": "unsupported_event_type",
    "DirectoryCreated.CreateDirectory": "unsupported_event_type",
    "DirectoryRenamed.RenameDirectory": "unsupported_event_type",
    "DirectoryDeleted.DeleteDirectory": "unsupported_event_type",
}
SENTENCES = {
    "uncommitted_api": "the call that caused the event does not commit a file's content",
    "unsupported_event_type": "only created blobs start runs",
}


def only_arrival(world: World) -> Arrival:
    (arrival,) = world.arrivals()
    return arrival


def stored_world(**changes: Any) -> World:
    """Return a world whose storage has the file that the fixtures tell of."""
    world = World(**changes)
    world.inputs.put(make_blob(etag="0x8D4BCC2E4835CD0"))
    return world


def test_there_is_a_fixture_of_every_api_in_both_schemas() -> None:
    """R12."""
    for schema in ("event_grid", "cloud_events"):
        assert {path.stem for path in (FIXTURES / schema).glob("*.json")} == set(OUTCOMES)


@pytest.mark.parametrize("schema", ["event_grid", "cloud_events"])
@pytest.mark.parametrize(("name", "outcome"), OUTCOMES.items())
def test_every_api_has_its_meaning_in_both_schemas(name: str, outcome: str, schema: str) -> None:
    """R03, R12: committed content starts a run, everything else is recorded with its reason."""
    world = stored_world()

    arrive(world.plane, (FIXTURES / schema / f"{name}.json").read_text())

    arrival = only_arrival(world)
    if outcome == "assigned":
        assert (arrival.state, arrival.blob.path) == (ArrivalState.ASSIGNED, PATH)
        assert len(world.databricks_runs()) == 1
    else:
        assert arrival.state is ArrivalState.IGNORED
        assert (arrival.reason or "").startswith(SENTENCES[outcome])
        assert world.databricks_runs() == []


def test_both_schemas_of_one_event_are_one_arrival() -> None:
    world = stored_world()

    for schema in ("event_grid", "cloud_events"):
        arrive(world.plane, (FIXTURES / schema / "BlobCreated.PutBlob.json").read_text())

    assert (only_arrival(world).deliveries, len(world.databricks_runs())) == (2, 1)


def rename_message(blob: BlobVersion, *, sequencer: str = "0009") -> str:
    event = json.loads((FIXTURES / "event_grid" / "BlobRenamed.RenameFile.json").read_text())[0]
    event["topic"] = event["topic"].replace("tidegatelocal", blob.account)
    event["subject"] = f"/blobServices/default/containers/{blob.container}/blobs/{blob.path}"
    event["data"]["destinationUrl"] = f"https://{blob.account}.dfs.core.windows.net/{blob.container}/{quote(blob.path)}"
    event["data"]["sequencer"] = sequencer
    return json.dumps(event)


def test_a_renamed_file_is_an_arrival_in_the_version_that_storage_has() -> None:
    """A rename says neither ETag nor size: both are looked up, none is made up."""
    world = World()
    blob = make_blob(etag="0x5", sequencer=None)
    world.inputs.put(blob, content_type="application/octet-stream")

    arrive(world.plane, rename_message(blob))

    arrival = only_arrival(world)
    assert arrival.blob == blob
    assert (arrival.source, arrival.api, arrival.content_type) == (
        ArrivalSource.RENAME,
        "RenameFile",
        "application/octet-stream",
    )
    (run,) = world.runs()
    assert (run.state, run.arrivals) == (RunState.SUBMITTED, (arrival.id,))


def test_a_renamed_file_that_is_gone_is_recorded_as_gone() -> None:
    world = World()

    arrive(world.plane, rename_message(make_blob()))

    arrival = only_arrival(world)
    assert (arrival.state, arrival.reason) == (
        ArrivalState.IGNORED,
        "what was renamed was not there any more when its event came",
    )


def test_a_rename_in_a_foreign_account_is_refused_without_asking_it() -> None:
    world = World()
    blob = BlobVersion(account="elsewhere", container="input", path=PATH, etag="0x1", size_bytes=5)
    world.inputs.put(blob)

    arrive(world.plane, rename_message(blob))

    assert (only_arrival(world).reason or "").startswith("the blob is in a storage account that this environment does")
    assert world.inputs.calls.counts == {}


def test_a_rename_replaces_what_was_held_under_its_name() -> None:
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60))
    before, after = make_blob(etag="0x1", sequencer="0004"), make_blob(etag="0x2")
    world.deliver(before)
    world.inputs.put(after)

    arrive(world.plane, rename_message(after, sequencer="0009"))

    assert world.arrival(before).state is ArrivalState.SUPERSEDED
    assert world.arrival(after).state is ArrivalState.HELD


def test_an_overwrite_before_the_rename_was_looked_up_agrees_with_its_own_event() -> None:
    """The rename's sequencer is not that of the version that storage has by then."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60))
    newest = make_blob(etag="0x3", sequencer="0012")
    world.inputs.put(newest)
    arrive(world.plane, rename_message(newest, sequencer="0009"))

    world.deliver(newest)

    arrival = only_arrival(world)
    assert (arrival.blob.sequencer, arrival.deliveries, arrival.contradictions) == ("0012", 2, ())


class _StorageIsAway(Faults):
    def __init__(self) -> None:
        self.times = 1

    def before(self, call: str) -> None:
        if call == "inputs.find" and self.times:
            self.times -= 1
            raise StorageUnavailableError(call, "scripted")


def test_a_rename_is_delivered_again_while_storage_does_not_answer() -> None:
    world = World(faults=_StorageIsAway())
    world.inputs.put(make_blob(etag="0x5"))

    with pytest.raises(StorageUnavailableError):
        arrive(world.plane, rename_message(make_blob()))
    arrive(world.plane, rename_message(make_blob()))

    assert only_arrival(world).state is ArrivalState.ASSIGNED


ODD_NAMES = [
    "with spaces and #hash %percent %41.parquet",
    "naïve 日本語 🌊.parquet",
    "x" * (1024 - len("flights/new/.parquet")) + ".parquet",
    "trailing/dots...",
    "dots/.../within/..a/a../.b.parquet",
    "back\\slash\\..\\x.parquet",
    "line\nbreak\u2028.parquet",
    "${jndi}{{x}}%s{0}.parquet",
    "\u202eterqap.x",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_but_legal_names_reach_the_manifest_as_they_are(name: str) -> None:
    """A blob's name is a text, never a path: nothing resolves, decodes or cleans it."""
    world = World(pipelines=make_pipelines(glob="**"))
    blob = make_blob(name, sequencer="0001")

    world.deliver(blob)
    world.deliver(blob)

    (run,) = world.runs()
    assert run.manifest is not None
    (file,) = InputManifest.from_bytes(world.manifests.blobs[run.manifest.url]).files
    assert file.blob == blob
    assert (world.arrival(blob).deliveries, world.arrival(blob).state) == (2, ArrivalState.ASSIGNED)
    (started,) = world.databricks_runs()
    assert "flights/new/" not in "".join(started.parameters.values())


def test_names_that_differ_only_in_how_they_would_be_resolved_are_different_files() -> None:
    world = World(pipelines=make_pipelines(glob="**"))
    names = ["b", "b.", "B", "%62", " b", "b "]

    for name in names:
        world.deliver(make_blob(name))

    assert len(world.arrivals()) == len(world.databricks_runs()) == len(names)


@pytest.mark.parametrize(
    "name", ["a/../b.parquet", "../../etc/passwd", "./b.parquet", ".", "..", "a//b.parquet", "/b.parquet", "folder/"]
)
def test_a_name_that_spark_would_resolve_is_ignored_and_spoils_no_batch(name: str) -> None:
    """R03, R20: the run would fail with every file beside it, or read a blob that nobody routed."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60, glob="**"))
    tricky, plain = make_blob(name), make_blob("plain.parquet")

    world.deliver(tricky)
    world.deliver(plain)
    world.clock.advance(timedelta(seconds=31))
    world.work()

    (run,) = world.runs()
    assert (run.arrival_count, world.arrival(plain).state) == (1, ArrivalState.ASSIGNED)
    assert world.arrival(tricky).state is ArrivalState.IGNORED
    assert SkipReason.UNREADABLE_NAME.sentence in (world.arrival(tricky).reason or "")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data | {"contentLength": 999},
        lambda data: data | {"sequencer": "0002"},
        lambda data: data | {"contentType": "text/plain"},
    ],
    ids=["size", "sequencer", "content type"],
)
def test_events_that_contradict_each_other_are_flagged(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Same ETag, other facts: recorded on the entry, an alert in the telemetry, and nothing is started twice."""
    world = World()
    blob = make_blob(sequencer="0001")
    event = json.loads(plain(blob_message(blob)))
    world.deliver(blob)

    arrive(world.plane, json.dumps(event | {"id": "other", "data": change(event["data"])}))

    (note,) = world.arrival(blob).contradictions
    assert note.startswith("event 'other' says ")
    assert world.arrival(blob).blob == blob
    ((name, fields),) = world.telemetry.alerts
    assert (name, fields["detail"], fields["arrival_id"]) == (
        "contradicting_events",
        note,
        world.arrival(blob).id,
    )
    assert len(world.databricks_runs()) == 1


def test_a_file_whose_creation_had_the_same_etag_is_not_hidden_by_it() -> None:
    """The creation of a file is recorded as ignored; its closing may carry the same ETag."""
    world = World()
    blob = make_blob(sequencer="0001")
    arrive(world.plane, blob_message(blob, api="CreateFile"))
    assert world.arrival(blob).state is ArrivalState.IGNORED

    for _ in range(2):
        arrive(world.plane, blob_message(blob, api="FlushWithClose"))
    world.work()

    assert (world.arrival(blob).state, world.arrival(blob).api) == (ArrivalState.ASSIGNED, "FlushWithClose")
    assert len(world.databricks_runs()) == 1


def test_an_upload_by_sftp_whose_event_says_no_size_has_the_one_that_storage_has() -> None:
    """Azure's own example of the event says 0; an empty file would be ignored."""
    world = World()
    blob = make_blob(sequencer="0002")
    world.inputs.put(blob)

    for stored in (blob, make_blob(etag="0xNEWER", sequencer=None), None):  # the event comes again after both
        if stored is None:
            world.inputs.remove(blob)
        else:
            world.inputs.put(stored)
        arrive(world.plane, blob_message(replace(blob, size_bytes=0), api="SftpCommit"))

    arrival = only_arrival(world)
    assert (arrival.state, arrival.blob, arrival.contradictions) == (ArrivalState.ASSIGNED, blob, ())
    assert len(world.databricks_runs()) == 1


def test_an_empty_upload_by_sftp_is_ignored_as_one() -> None:
    world = World()
    blob = replace(make_blob(), size_bytes=0)
    world.inputs.put(blob)

    arrive(world.plane, blob_message(blob, api="SftpCommit"))

    assert (only_arrival(world).reason or "").startswith(SkipReason.ZERO_BYTES.sentence)


def test_a_redelivery_raises_no_alert() -> None:
    world = World()

    world.deliver(make_blob())
    world.deliver(make_blob())

    assert world.telemetry.alerts == []


def plain(message: str) -> str:
    import base64

    return base64.b64decode(message).decode()


@pytest.mark.recipe("A clock jumped")
def test_a_clock_that_jumps_back_never_reopens_a_closed_batch() -> None:
    """What is frozen is frozen by the ledger's rows, not by the time; later files make a batch of their own."""
    world = World(pipelines=make_pipelines(quiet=30, max_wait=60))
    first, second = make_blob("a.parquet"), make_blob("b.parquet")
    world.deliver(first)
    world.clock.advance(timedelta(seconds=31))
    world.work()
    (before,) = world.runs()

    world.clock.advance(timedelta(hours=-2))
    world.deliver(first)
    world.deliver(second)
    world.work()

    assert world.runs() == [before]
    assert world.arrival(first).run_id == before.id
    world.clock.advance(timedelta(seconds=61))
    world.settle_submissions()
    assert [(run.id == before.id, run.arrival_count) for run in world.runs()] in (
        [(True, 1), (False, 1)],
        [(False, 1), (True, 1)],
    )
    assert len(world.databricks_runs()) == 2
    assert ACCOUNT in world.arrival(second).blob.url


def test_an_older_version_of_a_path_with_thousands_is_not_read() -> None:
    """R12: of a file that is overwritten every minute, the newest is not among the first thousand for long."""
    world = World(pipelines=make_pipelines(quiet=10, max_wait=30))
    world.deliver(make_blob(etag="0x0", sequencer="0" * 48))
    first = world.arrival(make_blob(etag="0x0"))
    blobs = [make_blob(etag=f"0x{number}", sequencer=f"{number:048x}") for number in range(1, 1100)]
    last = max(blobs, key=lambda blob: place_of(blob)[1])
    for version in blobs:
        blob = replace(version, sequencer="f" * 48) if version is last else version
        other = replace(first, id=arrival_id_of(blob), blob=blob).ignore(world.clock.now(), "nothing wants it")
        world.ledger.record_arrival(other)

    late = make_blob(etag="0xLATE", sequencer="e" * 48)
    world.deliver(late)

    assert world.arrival(late).state is ArrivalState.SUPERSEDED
    assert world.arrival(late).reason == f"replaced by ETag {last.etag}"
