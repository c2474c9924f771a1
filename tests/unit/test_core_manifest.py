"""Holds the input manifest to its schema, and its reader to refusing everything else."""

import json
from dataclasses import replace

import pytest
from hypothesis import given

from functions.core.completion import CompletionEvent
from functions.core.errors import InvalidDocumentError
from functions.core.manifest import InputManifest, ManifestFile, ManifestPointer, manifest_of, manifest_path
from functions.core.model import (
    BlobVersion,
    PipelineKey,
    RunId,
    RunKind,
)
from functions.core.scores import ScoresManifest
from functions.core.work import WorkItem
from tests.strategies import manifests
from tests.support.documents import BASE, NOON, RUN_ID, validator_of


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000 + "]" * 100_000, "\x00"])
def test_text_that_is_no_json_is_refused_by_every_reader(text: str) -> None:
    for read in (
        lambda: CompletionEvent.from_json(text[:60_000]),
        lambda: WorkItem.from_json(text),
        lambda: InputManifest.from_bytes(text.encode()),
        lambda: ScoresManifest.from_bytes(text.encode()),
    ):
        with pytest.raises(InvalidDocumentError):
            read()


@given(manifest=manifests)
def test_manifest_is_what_its_schema_says_and_survives_the_wire(manifest: InputManifest) -> None:
    data = manifest.to_bytes()

    validator_of("manifest").validate(json.loads(data))
    assert InputManifest.from_bytes(data) == manifest
    assert InputManifest.from_bytes(data).sha256() == manifest.sha256()


def test_manifest_does_not_depend_on_the_order_of_arrival() -> None:
    """Two workers that freeze the same files write the same bytes."""
    files = tuple(
        ManifestFile(
            blob=BlobVersion(account="acct", container="input", path=path, etag=etag, size_bytes=1), arrival_id=None
        )
        for path, etag in [("b", "1"), ("a", "2"), ("a", "1")]
    )

    first, second = (
        manifest_of(
            run_id=RUN_ID, pipeline=PipelineKey("scoring"), kind=RunKind.SCORING, created_at=NOON, files=ordered
        )
        for ordered in (files, files[::-1])
    )

    assert first.to_bytes() == second.to_bytes()
    assert [(file.blob.path, file.blob.etag) for file in first.files] == [("a", "1"), ("a", "2"), ("b", "1")]


def test_manifest_of_a_consignment_names_it_and_the_version_before() -> None:
    """A notebook announces both; a batch that is no consignment's keeps the bytes it always had."""
    facts = {
        "run_id": RUN_ID,
        "pipeline": PipelineKey("scoring"),
        "kind": RunKind.SCORING,
        "created_at": NOON,
        "files": (),
    }
    before = RunId("scoring-20260101T110000Z-0123456789ab")

    of_a_folder = manifest_of(**facts, consignment="input/june/", replaces=before)  # type: ignore[arg-type] # as above
    first, plain = manifest_of(**facts, consignment="input/june/"), manifest_of(**facts)  # type: ignore[arg-type] # as above

    documents = [json.loads(manifest.to_bytes()) for manifest in (of_a_folder, first, plain)]
    assert [(one.get("consignment"), one.get("replaces", "absent")) for one in documents] == [
        ("input/june/", before),
        ("input/june/", None),
        (None, "absent"),
    ]
    for manifest, document in zip((of_a_folder, first, plain), documents, strict=True):
        validator_of("manifest").validate(document)
        assert InputManifest.from_bytes(manifest.to_bytes()) == manifest
    for wrong in ({"replaces": before}, {"consignment": "", "replaces": None}, {"consignment": "a/", "replaces": "x"}):
        with pytest.raises(InvalidDocumentError):
            InputManifest.from_bytes(json.dumps(documents[2] | wrong).encode())
    with pytest.raises(ValueError, match="only a version of a consignment replaces a run"):
        replace(plain, replaces=before)


def test_manifest_with_mistakes_lists_them() -> None:
    manifest = manifest_of(
        run_id=RUN_ID,
        pipeline=PipelineKey("scoring"),
        kind=RunKind.SCORING,
        created_at=NOON,
        files=(
            ManifestFile(
                blob=BlobVersion(account="acct", container="input", path="a", etag="1", size_bytes=1), arrival_id=None
            ),
        ),
    )
    document = json.loads(manifest.to_bytes())
    document["batch_id"] = "short"
    document["files"][0]["url"] = f"{BASE}/input/b"

    with pytest.raises(InvalidDocumentError) as refused:
        InputManifest.from_bytes(json.dumps(document).encode())

    assert [problem.place for problem in refused.value.problems] == ["manifest.batch_id", "manifest.files[0].url"]
    with pytest.raises(InvalidDocumentError, match="expected an object"):
        InputManifest.from_bytes(b"[]")


def test_manifest_lies_under_its_pipeline() -> None:
    assert manifest_path(PipelineKey("p"), RUN_ID) == f"manifests/p/{RUN_ID}.json"


@pytest.mark.parametrize(
    ("url", "sha256"),
    [
        (f"{BASE}/tidegate/x.json?sig=secret", "a" * 64),
        ("http://acct.blob.core.windows.net/tidegate/x", "a" * 64),
        (f"{BASE}/tidegate/x.json", "A" * 64),
    ],
)
def test_pointer_is_a_plain_blob_url_with_a_hash(url: str, sha256: str) -> None:
    """A shared access signature can never travel in a parameter."""
    with pytest.raises(ValueError, match="expected an https blob URL"):
        ManifestPointer(url=url, sha256=sha256)
