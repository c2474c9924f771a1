"""Names blobs by their public https URL and says what Spark calls the same place."""

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

__all__ = ["BlobUrl"]

_HOST: Final = re.compile(r"(?P<account>[a-z0-9]{3,24})\.blob\.core\.windows\.net")
_GLOB: Final = re.compile(r"([\\*?\[\]{}])")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobUrl:
    """A blob or a folder of blobs; `path` is decoded, as the blob is named."""

    account: str
    container: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the parts of https://<account>.blob.core.windows.net/<container>/<path>; raises ValueError else."""
        parts = urlsplit(url)
        host = _HOST.fullmatch(parts.netloc)
        container, _, path = parts.path.removeprefix("/").partition("/")
        if parts.scheme != "https" or host is None or not container or not path or parts.query or parts.fragment:
            raise ValueError(f"expected https://<account>.blob.core.windows.net/<container>/<path>, got {url!r}")
        decoded = unquote(path)
        if any(part in {".", ".."} for part in decoded.split("/")):
            raise ValueError(f"a blob's path may not contain '.' or '..' segments, got {url!r}")
        return cls(account=host["account"], container=container, path=decoded)

    def __str__(self) -> str:
        return f"https://{self.account}.blob.core.windows.net/{self.container}/{quote(self.path, safe='/~=')}"

    @property
    def name(self) -> str:
        """The last segment of the path."""
        return self.path.rsplit("/", 1)[-1]

    def child(self, name: str) -> "BlobUrl":
        """Return the blob or folder called `name` inside this folder."""
        return BlobUrl(account=self.account, container=self.container, path=f"{self.path}/{name}")

    def at(self, path: str) -> "BlobUrl":
        """Return another path in the same container."""
        return BlobUrl(account=self.account, container=self.container, path=path)

    @property
    def abfss(self) -> str:
        """The URL for Spark, which takes the decoded path and treats some of its characters as a pattern."""
        escaped = _GLOB.sub(r"\\\1", self.path)
        return f"abfss://{self.container}@{self.account}.dfs.core.windows.net/{escaped}"
