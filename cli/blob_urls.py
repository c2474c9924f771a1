"""Reads the URLs by which people call blobs."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from cli.failures import CommandError

__all__ = ["BlobName", "parse_blob_url"]

_PUBLIC_HOST = re.compile(r"([a-z0-9]{3,24})\.(?:blob|dfs)\.core\.windows\.net")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobName:
    """A blob, or a folder of blobs, by name."""

    account: str
    container: str
    path: str

    @property
    def url(self) -> str:
        """The https URL on Azure's public endpoint, which is how the control plane calls it wherever it is."""
        return f"https://{self.account}.blob.core.windows.net/{self.container}/{quote(self.path, safe='/~')}"


def parse_blob_url(url: str) -> BlobName:
    """Return the blob that a URL names: Azure's form (https, abfss) or the local endpoint's, account in the path.

    Raises:
        CommandError: It names no blob.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:  # an unclosed bracket, for one
        raise CommandError(f"{url!r} is no URL: {error}") from error
    if "?" in url or "#" in url:
        raise CommandError(f"{url!r} has a '?' or '#'; if it is part of the blob's name, write %3F or %23")
    if parts.scheme == "abfss" and "@" in parts.netloc:
        container, _, host = parts.netloc.partition("@")
        names = [host.partition(".")[0], container, parts.path.lstrip("/")]
    elif (match := _PUBLIC_HOST.fullmatch(parts.hostname or "")) is not None:
        names = [match[1], *parts.path.lstrip("/").split("/", 1)]
    elif parts.hostname in {"127.0.0.1", "localhost"}:
        names = parts.path.lstrip("/").split("/", 2)
    else:
        names = []
    if len(names) != 3 or not all(names):  # noqa: PLR2004 - account, container, path
        raise CommandError(
            f"expected the URL of a blob, as https://<account>.blob.core.windows.net/<container>/<path>, got {url!r}"
        )
    account, container, path = names
    return BlobName(account=account, container=container, path=unquote(path).rstrip("/"))
