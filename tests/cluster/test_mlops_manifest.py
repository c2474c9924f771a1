"""Tests that a run reads the input manifest that was decided, and how an event sums it up."""

import pytest
from typed_parameters import as_scoring
from worlds import World

from tidegate_mlops.errors import InvalidManifestError
from tidegate_mlops.manifest import InputFile, InputManifest
from tidegate_mlops.urls import BlobUrl

INPUT = "https://tidegatelocal.blob.core.windows.net/input/flights/new/1/june.parquet"


def test_a_manifest_is_the_one_that_was_decided(scoring: dict[str, str], world: World) -> None:
    """Its digest proves it, and its ids are compared all the same."""
    blob = world.store.read(BlobUrl.parse(scoring["manifest_url"]))
    assert blob is not None

    manifest = InputManifest.parse(blob.data, as_scoring(scoring))

    assert [str(file.url) for file in manifest.files] == [INPUT]
    assert manifest.summary()["file_count"] == 1
    with pytest.raises(InvalidManifestError, match="sha256"):
        InputManifest.parse(blob.data + b" ", as_scoring(scoring))
    with pytest.raises(InvalidManifestError, match="batch_id"):
        InputManifest.parse(blob.data, as_scoring(scoring | {"batch_id": "f" * 16}))


def test_a_blobs_name_too_long_for_an_event_is_left_to_the_manifest() -> None:
    """1,024 characters of a name may be nine thousand in its URL; the control plane must still read what names it."""
    long = BlobUrl.parse("https://acc.blob.core.windows.net/input/" + "%E2%82%AC" * 1024)
    files = (InputFile(url=long.at("a"), etag="0x1", size_bytes=1), InputFile(url=long, etag="0x2", size_bytes=1))
    manifest = InputManifest(url=INPUT, sha256="0" * 64, batch_id="0" * 16, files=files)

    summary = manifest.summary()

    assert (summary["file_count"], summary["files"]) == (2, [{"url": str(long.at("a")), "etag": "0x1"}])
