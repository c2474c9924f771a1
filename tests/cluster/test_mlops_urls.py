"""Tests which blobs a URL may name, and how Spark is told of them."""

import pytest

from tidegate_mlops.urls import BlobUrl


@pytest.mark.parametrize(
    ("url", "path", "abfss"),
    [
        ("https://acc.blob.core.windows.net/input/a/b.parquet", "a/b.parquet", "a/b.parquet"),
        ("https://acc.blob.core.windows.net/input/a%20b/%23%25.parquet", "a b/#%.parquet", "a b/#%.parquet"),
        ("https://acc.blob.core.windows.net/input/%5B1%5D%2A.parquet", "[1]*.parquet", "\\[1\\]\\*.parquet"),
        ("https://acc.blob.core.windows.net/scores/p/batch=1/x", "p/batch=1/x", "p/batch=1/x"),
    ],
)
def test_blob_urls(url: str, path: str, abfss: str) -> None:
    """A name is decoded once, written back as it came, and never taken for a pattern by Spark."""
    parsed = BlobUrl.parse(url)

    assert parsed.path == path
    assert BlobUrl.parse(str(parsed)) == parsed
    assert parsed.abfss == f"abfss://{parsed.container}@acc.dfs.core.windows.net/{abfss}"


@pytest.mark.parametrize(
    "url",
    [
        "http://acc.blob.core.windows.net/c/p",
        "https://acc.blob.core.windows.net.evil.example/c/p",
        "https://user@acc.blob.core.windows.net/c/p",
        "https://acc.blob.core.windows.net/c",
        "https://acc.blob.core.windows.net/c/../d/p",
        "https://acc.blob.core.windows.net/c/%2E%2E/p",
        "https://acc.blob.core.windows.net/c/p?sig=1",
    ],
)
def test_foreign_or_tricky_urls_are_refused(url: str) -> None:
    """A run reads and writes in its own storage only."""
    with pytest.raises(ValueError, match="blob"):
        BlobUrl.parse(url)
