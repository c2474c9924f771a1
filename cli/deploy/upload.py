"""Uploads a release once: never over a whole one, and on from where an interrupted upload stopped."""

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from cli.deploy.release import REQUIREMENTS, Release, ReleaseFile
from cli.failures import CommandError

__all__ = ["ReleaseStore", "upload_release"]

_AT_ONCE = 8


class ReleaseStore(Protocol):
    """What uploading needs of a workspace."""

    def files_below(self, folder: str) -> set[str]:
        """Return the relative paths of what is in a folder."""
        ...

    def read(self, path: str, *, is_notebook: bool = False) -> bytes:
        """Return the content of a file."""
        ...

    def make_folder(self, path: str) -> None:
        """Create a folder."""
        ...

    def write(self, folder: str, file: ReleaseFile, *, overwrite: bool) -> None:
        """Write one file."""
        ...


def upload_release(store: ReleaseStore, release: Release) -> list[str]:
    """Return the paths that were written; none if the release was there, whole and the same.

    Raises:
        CommandError: A whole release of this version is there with other content.
    """
    there = store.files_below(release.folder)
    if REQUIREMENTS in there:
        _require_same(store, release, there)
        return []
    for folder in sorted({file.path.rpartition("/")[0] for file in release.files}):
        store.make_folder(f"{release.folder}/{folder}".rstrip("/"))

    def put(file: ReleaseFile) -> str | None:
        # What is there comes from an interrupted upload: nobody uses it before the requirements are there.
        if file.path in there and not file.is_notebook and store.read(f"{release.folder}/{file.path}") == file.content:
            return None
        store.write(release.folder, file, overwrite=file.path in there)
        return file.path

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        written = [path for path in pool.map(put, release.files) if path is not None]
    store.write(release.folder, release.requirements, overwrite=False)
    return [*written, release.requirements.path]


def _require_same(store: ReleaseStore, release: Release, there: set[str]) -> None:
    missing = sorted({file.path for file in release.files} - there)
    if missing:
        raise CommandError(f"{release.folder} is damaged: {', '.join(missing)} missing; delete the folder and repeat")
    if store.read(f"{release.folder}/{REQUIREMENTS}") != release.requirements.content:
        raise CommandError(
            f"{release.folder} is there with other wheels and is never overwritten; commit the change and deploy again"
        )
