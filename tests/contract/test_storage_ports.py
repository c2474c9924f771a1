"""Holds the in-memory and the real work queue, manifests, inputs and quarantine to one suite each."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob import ContentSettings

from functions.adapters.blobs import BlobInputs, BlobManifests
from functions.adapters.dead_letters import BlobDeadLetters
from functions.adapters.storage import StorageAccount
from functions.adapters.work_queue import StorageWorkQueue
from functions.core.dead_letters import Replayed
from functions.core.dismissals import Dismissed
from functions.core.errors import (
    IllegalTransitionError,
    InvalidDocumentError,
    NotFoundError,
    StorageUnavailableError,
)
from functions.core.manifest import InputManifest, ManifestFile, ManifestPointer, manifest_of
from functions.core.model import BlobVersion, PipelineKey, RunId, RunKind
from functions.core.work import WorkItem, WorkKind
from functions.ports import InputStore, ManifestStore, Quarantine, WorkQueue
from tests.support.control_plane import ACCOUNT
from tests.support.in_memory import (
    FixedClock,
    InMemoryInputs,
    InMemoryManifests,
    InMemoryQuarantine,
    InMemoryQueue,
)
from tests.support.storage_ports import fresh_name, storage_of

KINDS = ["memory", pytest.param("azurite", marks=pytest.mark.integration)]
PIPELINE = PipelineKey("flight_delay_scoring")
ITEM = WorkItem(kind=WorkKind.CLOSE_BATCH, pipeline=PIPELINE)


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest) -> Iterator[StorageAccount | None]:
    """The real storage account, or None for the ports in memory."""
    if request.param == "memory":
        yield None
        return
    with storage_of(request.getfixturevalue("azurite")) as account:
        yield account


@dataclass(frozen=True)
class Queue:
    """A work queue, and what a listener would see of it."""

    port: WorkQueue
    visible: Callable[[], list[WorkItem]]


@pytest.fixture
def queue(storage: StorageAccount | None) -> Queue:
    if storage is None:
        memory = InMemoryQueue(FixedClock(datetime.now(UTC)))
        return Queue(memory, lambda: [item for item in [memory.take()] if item is not None])
    name = fresh_name("q")
    client = storage.queues.get_queue_client(name)

    def receive() -> list[WorkItem]:
        return [WorkItem.from_json(base64.b64decode(message.content).decode()) for message in client.receive_messages()]

    return Queue(StorageWorkQueue(storage, queue=name), receive)


def test_work_without_delay_is_visible_at_once(queue: Queue) -> None:
    """The queue is made by its first message if it is not there."""
    queue.port.enqueue(ITEM)

    assert queue.visible() == [ITEM]


def test_work_with_delay_is_not_visible_yet(queue: Queue) -> None:
    queue.port.enqueue(ITEM, delay=timedelta(minutes=5))

    assert queue.visible() == []


def test_a_delay_beyond_what_the_service_takes_is_shortened(queue: Queue) -> None:
    queue.port.enqueue(ITEM, delay=timedelta(days=30))

    assert queue.visible() == []


@pytest.fixture
def manifests(storage: StorageAccount | None) -> ManifestStore:
    return InMemoryManifests() if storage is None else BlobManifests(storage, container=fresh_name("tidegate"))


def make_manifest(*paths: str) -> InputManifest:
    return manifest_of(
        run_id=RunId("flight_delay_scoring-20260301T120000Z-0123456789ab"),
        pipeline=PIPELINE,
        kind=RunKind.SCORING,
        created_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
        files=tuple(
            ManifestFile(
                blob=BlobVersion(account=ACCOUNT, container="input", path=path, etag="0x1", size_bytes=5),
                arrival_id=None,
            )
            for path in paths
        ),
    )


def test_a_manifest_is_read_as_it_was_written(manifests: ManifestStore) -> None:
    manifest = make_manifest("flights/new/Zürich #1 100%.parquet", "flights/new/b.parquet")

    pointer, kept = manifests.write(manifest)

    assert kept == manifest
    assert pointer.sha256 == manifest.sha256()
    assert manifests.read(pointer) == manifest


def test_the_first_manifest_of_a_run_stays(manifests: ManifestStore) -> None:
    """The frozen batch never changes, whoever writes second."""
    first, second = make_manifest("flights/new/a.parquet"), make_manifest("flights/new/b.parquet")

    manifests.write(first)
    pointer, kept = manifests.write(second)

    assert kept == first
    assert manifests.read(pointer) == first


def test_a_manifest_with_another_hash_is_refused(manifests: ManifestStore) -> None:
    pointer, _ = manifests.write(make_manifest("flights/new/a.parquet"))

    with pytest.raises(InvalidDocumentError):
        manifests.read(ManifestPointer(url=pointer.url, sha256="0" * 64))


def test_a_manifest_that_is_not_there_is_not_found(manifests: ManifestStore) -> None:
    pointer, _ = manifests.write(make_manifest("flights/new/a.parquet"))

    with pytest.raises(NotFoundError):
        manifests.read(replace(pointer, url=pointer.url.replace(".json", "x.json")))


def test_scores_that_are_not_published_are_none(manifests: ManifestStore) -> None:
    pointer, _ = manifests.write(make_manifest("flights/new/a.parquet"))
    base = pointer.url.split("/manifests/")[0]

    assert manifests.read_scores(f"{base}/nothing/here") is None


@dataclass(frozen=True)
class Inputs:
    """An input store, and a way to upload to it."""

    port: InputStore
    put: Callable[[str, bytes], str]  # as text/csv; returns the ETag
    container: str

    def paths(self, prefix: str, *, limit: int) -> list[list[str]]:
        """Return the paths of every page."""
        page = self.port.list_page(self.container, prefix, continuation=None, limit=limit)
        pages = [page]
        while page.continuation is not None:
            page = self.port.list_page(self.container, prefix, continuation=page.continuation, limit=limit)
            pages.append(page)
        return [[blob.version.path for blob in page.blobs] for page in pages]


@pytest.fixture
def inputs(storage: StorageAccount | None) -> Inputs:
    container = fresh_name("input")
    if storage is None:
        memory = InMemoryInputs(ACCOUNT)

        def remember(path: str, data: bytes) -> str:
            etag = f"0x{len(memory.blobs)}"
            blob = BlobVersion(account=ACCOUNT, container=container, path=path, etag=etag, size_bytes=len(data))
            memory.put(blob, content_type="text/csv", at=datetime.now(UTC), content=data)
            return etag

        return Inputs(memory, remember, container)
    client = storage.blobs().create_container(container)

    def upload(path: str, data: bytes) -> str:
        blob = client.upload_blob(path, data, overwrite=True, content_settings=ContentSettings(content_type="text/csv"))
        return str(blob.get_blob_properties().etag).strip('"')

    return Inputs(BlobInputs(storage), upload, container)


ODD_PATHS = ["new/a.parquet", "new/Zürich #1 100% + 'x'.parquet", "new/a..b", "new/%41", "new/🌊/" + "x" * 240]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_blob_has_its_bare_etag_size_type_and_time(inputs: Inputs, path: str) -> None:
    """Odd but legal names are themselves."""
    etag = inputs.put(path, b"12345")

    found = inputs.port.find(ACCOUNT, inputs.container, path)

    assert found is not None
    assert found.version == BlobVersion(account=ACCOUNT, container=inputs.container, path=path, etag=etag, size_bytes=5)
    assert found.content_type == "text/csv"
    assert abs(found.modified_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_a_blob_that_is_not_there_has_no_version(inputs: Inputs) -> None:
    assert inputs.port.find(ACCOUNT, inputs.container, "new/nothing") is None


def test_a_small_content_is_read_and_of_a_large_one_no_more_than_shows_that(inputs: Inputs) -> None:
    inputs.put("new/list.json", b"0123456789")
    inputs.put("new/empty", b"")

    def read(path: str, most_bytes: int) -> bytes | None:
        return inputs.port.read_small(ACCOUNT, inputs.container, path, most_bytes=most_bytes)

    assert read("new/list.json", 10) == b"0123456789"
    assert read("new/list.json", 4) == b"01234"
    assert read("new/empty", 4) == b""
    assert read("new/nothing", 4) is None


def test_a_listing_comes_in_pages_sorted_and_says_the_same_as_looking(inputs: Inputs) -> None:
    for path in ("new/c", "new/a", "other/x", "new/b", "new/d"):
        inputs.put(path, b"1")
    inputs.put("new/0-empty", b"")

    pages = inputs.paths("new/", limit=2)

    assert pages == [["new/0-empty", "new/a"], ["new/b", "new/c"], ["new/d"]]
    (listed,) = inputs.port.list_page(inputs.container, "new/d", continuation=None, limit=5).blobs
    assert listed == inputs.port.find(ACCOUNT, inputs.container, "new/d")


def test_odd_names_are_listed_as_they_are(inputs: Inputs) -> None:
    for path in ODD_PATHS:
        inputs.put(path, b"1")

    assert sorted(path for page in inputs.paths("new/", limit=2) for path in page) == sorted(ODD_PATHS)


def test_a_listing_without_blobs_is_one_empty_page(inputs: Inputs) -> None:
    inputs.put("other/x", b"1")

    assert inputs.paths("new/", limit=10) == [[]]


def test_listing_a_container_that_is_not_there_finds_none(inputs: Inputs) -> None:
    inputs.put("new/a", b"1")

    with pytest.raises(NotFoundError):
        inputs.port.list_page("nothing-here", "", continuation=None, limit=10)


@pytest.fixture
def quarantine(storage: StorageAccount | None) -> Quarantine:
    return InMemoryQuarantine() if storage is None else BlobDeadLetters(storage, container=fresh_name("deadletter"))


def test_a_quarantined_message_stays_as_it_was_first_kept(
    quarantine: Quarantine, storage: StorageAccount | None
) -> None:
    first = quarantine.keep("poison/2026-03-01/x.json", {"reason": "first"})
    second = quarantine.keep("poison/2026-03-01/x.json", {"reason": "second"})

    assert first == second
    assert first.endswith("/poison/2026-03-01/x.json")
    if storage is not None:
        container, path = first.split("/", 4)[3:]
        kept = storage.blobs().get_blob_client(container, path).download_blob().readall()
        assert json.loads(kept) == {"reason": "first"}


def test_what_was_kept_is_read_and_listed_by_name(quarantine: Quarantine) -> None:
    assert list(quarantine.list("", at_a_time=5)) == []
    for name in ("poison/b.json", "poison/a.json", "other/c.json"):
        quarantine.keep(name, {"name": name})

    listed = list(quarantine.list("poison/", at_a_time=5))

    assert [letter.name for letter in listed] == ["poison/a.json", "poison/b.json"]
    assert all(letter.kept_at.tzinfo is not None for letter in listed)
    assert [letter.name for letter in quarantine.list("", at_a_time=1)] == [
        "other/c.json",
        "poison/a.json",
        "poison/b.json",
    ]
    assert json.loads(quarantine.read("other/c.json").value) == {"name": "other/c.json"}
    with pytest.raises(NotFoundError):
        quarantine.read("none.json")


def test_a_letter_says_its_latest_replay_and_keeps_what_it_held(quarantine: Quarantine) -> None:
    quarantine.keep("A/a.json", {"text": "a"})
    quarantine.keep("A/b.json", {"text": "b"})
    before = {letter.name: letter.kept_at for letter in quarantine.list("", at_a_time=5)}
    second = datetime(2026, 3, 1, 12, tzinfo=UTC)
    latest = Replayed(at=second, did=('e-1: arrival is "held", 100 %, \u00fc\u4e2d\U0001f600\n',))

    for replayed in (replace(latest, at=second - timedelta(days=1)), latest, Replayed(at=second, did=())):
        quarantine.mark_replayed("A/a.json", replayed, version=quarantine.read("A/a.json").version)
    unmarked = quarantine.read("A/b.json").version
    quarantine.mark_replayed("A/b.json", latest, version=unmarked)
    quarantine.mark_replayed("A/b.json", replace(latest, at=second - timedelta(days=1)), version=unmarked)
    quarantine.mark_replayed("A/gone.json", latest, version="any")
    with pytest.raises(StorageUnavailableError, match="changed since it was read"):
        quarantine.mark_replayed("A/b.json", replace(latest, at=second + timedelta(days=1)), version=unmarked)

    listed = list(quarantine.list("", at_a_time=5))
    assert [letter.replayed for letter in listed] == [latest, latest]
    assert {letter.name: letter.kept_at for letter in listed} == before
    assert json.loads(quarantine.read("A/a.json").value) == {"text": "a"}


def test_a_letter_says_its_first_dismissal_and_keeps_what_it_held(quarantine: Quarantine) -> None:
    quarantine.keep("A/a.json", {"text": "a"})
    quarantine.keep("A/b.json", {"text": "b"})
    (untouched, _) = before = list(quarantine.list("", at_a_time=5))
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    first = Dismissed(at=at, by="ann", reason='"ours", 100 %, \u00fc\u4e2d\U0001f600')
    replayed = Replayed(at=at + timedelta(days=2), did=("e-1: held",))
    unread = quarantine.read("A/a.json").version

    found = [quarantine.dismiss("A/a.json", first, version=unread)]
    with pytest.raises(StorageUnavailableError, match="changed since it was read"):
        quarantine.mark_replayed("A/a.json", replayed, version=unread)
    found += [
        quarantine.dismiss("A/a.json", dismissed, version=quarantine.read("A/a.json").version)
        for dismissed in (first, replace(first, at=at + timedelta(days=1), reason="another"))
    ]
    with pytest.raises(StorageUnavailableError, match="changed since it was read"):
        quarantine.dismiss("A/b.json", first, version="another")
    with pytest.raises(NotFoundError):
        quarantine.dismiss("A/gone.json", first, version="any")
    (dismissed_letter, waiting) = list(quarantine.list("", at_a_time=5))
    quarantine.mark_replayed("A/a.json", replayed, version=quarantine.read("A/a.json").version)
    quarantine.mark_replayed("A/b.json", replayed, version=quarantine.read("A/b.json").version)
    found.append(quarantine.dismiss("A/b.json", first, version=quarantine.read("A/b.json").version))

    both, only_replayed = quarantine.list("", at_a_time=5)
    assert [(letter.dismissed, letter.replayed) for letter in found] == [
        (None, None),
        (first, None),
        (first, None),
        (None, replayed),
    ]
    assert [letter.is_waiting for letter in (dismissed_letter, waiting, both, only_replayed)] == [False, True] + [
        False
    ] * 2
    assert dismissed_letter == replace(untouched, dismissed=first)
    assert (both.dismissed, both.replayed) == (first, replayed)
    assert only_replayed == replace(before[1], replayed=replayed)
    assert json.loads(quarantine.read("A/a.json").value) == {"text": "a"}


@pytest.mark.parametrize("storage", KINDS[1:], indirect=True)
@pytest.mark.parametrize(("taken", "kept"), [(0, 500), (7600, 250), (8150, None)])
def test_a_dismissal_takes_what_room_others_have_left(storage: StorageAccount, taken: int, kept: int | None) -> None:
    """Azure refuses more than 8 KiB of metadata, which Azurite takes; a person must learn that it was not written."""
    container = fresh_name("deadletter")
    quarantine = BlobDeadLetters(storage, container=container)
    quarantine.keep("A/a.json", {})
    blob = storage.blobs().get_blob_client(container, "A/a.json")
    blob.set_blob_metadata({"owner": "x" * taken})
    dismissed = Dismissed(at=datetime(2026, 3, 1, tzinfo=UTC), by="ann", reason="x" * 600)
    version = quarantine.read("A/a.json").version

    if kept is None:
        with pytest.raises(IllegalTransitionError, match="full of metadata of others"):
            quarantine.dismiss("A/a.json", dismissed, version=version)
    else:
        quarantine.dismiss("A/a.json", dismissed, version=version)

    (letter,) = quarantine.list("", at_a_time=5)
    metadata = blob.get_blob_properties().metadata
    assert (None if letter.dismissed is None else len(letter.dismissed.reason)) == kept
    assert metadata["owner"] == "x" * taken
    assert sum(len(f"x-ms-meta-{name}{value}") for name, value in metadata.items()) <= 8192


@pytest.mark.parametrize("storage", KINDS[1:], indirect=True)
def test_what_was_marked_in_another_way_waits(storage: StorageAccount) -> None:
    """Others write metadata too; theirs stays."""
    container = fresh_name("deadletter")
    quarantine = BlobDeadLetters(storage, container=container)
    quarantine.keep("A/a.json", {})
    blob = storage.blobs().get_blob_client(container, "A/a.json")
    blob.set_blob_metadata({"owner": "ann", "tidegate_replayed": "yes"})
    (waiting,) = quarantine.list("", at_a_time=5)

    replayed = Replayed(at=datetime(2026, 3, 1, tzinfo=UTC), did=("x",))
    quarantine.mark_replayed("A/a.json", replayed, version=quarantine.read("A/a.json").version)

    (marked,) = quarantine.list("", at_a_time=5)
    assert (waiting.replayed, marked.replayed is None) == (None, False)
    assert blob.get_blob_properties().metadata["owner"] == "ann"


@pytest.mark.parametrize("storage", KINDS[1:], indirect=True)
def test_a_letter_without_content_is_read_and_a_folder_is_none(storage: StorageAccount) -> None:
    """A hierarchical account lists folders as blobs; the service refuses any range of what is empty."""
    container = fresh_name("deadletter")
    quarantine = BlobDeadLetters(storage, container=container)
    quarantine.keep("A/a.json", {})
    blobs = storage.blobs()
    blobs.get_blob_client(container, "A").upload_blob(b"", metadata={"hdi_isfolder": "true"})
    blobs.get_blob_client(container, "A/empty.json").upload_blob(b"")

    assert [letter.name for letter in quarantine.list("", at_a_time=5)] == ["A/a.json", "A/empty.json"]
    assert quarantine.read("A/empty.json").value == b""


@pytest.mark.parametrize("storage", KINDS[1:], indirect=True)
def test_a_replay_of_a_letter_that_nobody_remembers_marks_none_that_is_newer(storage: StorageAccount) -> None:
    quarantine = BlobDeadLetters(storage, container=fresh_name("deadletter"))
    quarantine.keep("A/a.json", {})
    now = datetime.now(UTC)

    quarantine.mark_replayed("A/a.json", Replayed(at=now - timedelta(hours=1), did=()), version=None)
    (before,) = quarantine.list("", at_a_time=5)
    quarantine.mark_replayed("A/a.json", Replayed(at=now + timedelta(hours=1), did=()), version=None)
    (after,) = quarantine.list("", at_a_time=5)

    assert (before.replayed, after.replayed is None) == (None, False)


@pytest.mark.parametrize("storage", KINDS[1:], indirect=True)
@pytest.mark.parametrize(("taken", "is_marked"), [(0, True), (5000, True), (7900, True), (8150, False)])
def test_a_mark_takes_what_room_others_have_left(storage: StorageAccount, taken: int, is_marked: bool) -> None:
    """Azure refuses more than 8 KiB of metadata, which Azurite takes; a replay must not fail for its mark."""
    container = fresh_name("deadletter")
    quarantine = BlobDeadLetters(storage, container=container)
    quarantine.keep("A/a.json", {})
    blob = storage.blobs().get_blob_client(container, "A/a.json")
    blob.set_blob_metadata({"owner": "x" * taken})

    replayed = Replayed(at=datetime(2026, 3, 1, tzinfo=UTC), did=tuple(f"e-{number}: held" for number in range(3000)))
    quarantine.mark_replayed("A/a.json", replayed, version=quarantine.read("A/a.json").version)

    (letter,) = quarantine.list("", at_a_time=5)
    metadata = blob.get_blob_properties().metadata
    assert (letter.replayed is not None) == is_marked
    assert metadata["owner"] == "x" * taken
    assert sum(len(f"x-ms-meta-{name}{value}") for name, value in metadata.items()) <= 8192
