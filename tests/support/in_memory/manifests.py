"""Keeps input manifests, each as it was first written, and the manifests of scores."""

import threading

from functions.core.errors import InvalidDocumentError, NotFoundError, Problem
from functions.core.manifest import InputManifest, ManifestPointer, manifest_path
from functions.core.scores import ScoresManifest
from tests.support.in_memory.faults import Calls, Faults, NoFaults

__all__ = ["InMemoryManifests"]


class InMemoryManifests:
    """Implements `ManifestStore`; `blobs` has every document by URL."""

    def __init__(
        self, account: str = "tidegatelocal", container: str = "tidegate", faults: Faults | None = None
    ) -> None:
        self.calls = Calls(faults or NoFaults())
        self._base = f"https://{account}.blob.core.windows.net/{container}"
        self.blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def write(self, manifest: InputManifest) -> tuple[ManifestPointer, InputManifest]:
        url = f"{self._base}/{manifest_path(manifest.pipeline, manifest.run_id)}"
        with self.calls.effect("manifests.write"), self._lock:
            kept = InputManifest.from_bytes(self.blobs.setdefault(url, manifest.to_bytes()))
        return ManifestPointer(url=url, sha256=kept.sha256()), kept

    def read(self, pointer: ManifestPointer) -> InputManifest:
        with self.calls.effect("manifests.read"):
            found = self.blobs.get(pointer.url)
        if found is None:
            raise NotFoundError("reading an input manifest", f"nothing at {pointer.url!r}")
        manifest = InputManifest.from_bytes(found)
        if manifest.sha256() != pointer.sha256:
            raise InvalidDocumentError([Problem("manifest.sha256", manifest.sha256(), pointer.sha256)])
        return manifest

    def read_scores(self, output_url: str) -> ScoresManifest | None:
        with self.calls.effect("manifests.read_scores"):
            found = self.blobs.get(f"{output_url}/_manifest.json")
        return None if found is None else ScoresManifest.from_bytes(found)
