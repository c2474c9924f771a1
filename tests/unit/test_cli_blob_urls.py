"""Tests how the command line reads the URL of a blob."""

import pytest

from cli.blob_urls import BlobName, parse_blob_url
from cli.failures import CommandError

_WANTED = BlobName(account="acct", container="input", path="flights/new/a b#1.parquet")


@pytest.mark.parametrize(
    "url",
    [
        "https://acct.blob.core.windows.net/input/flights/new/a%20b%231.parquet",
        "https://acct.dfs.core.windows.net/input/flights/new/a%20b%231.parquet",
        "abfss://input@acct.dfs.core.windows.net/flights/new/a%20b%231.parquet",
        "http://127.0.0.1:10000/acct/input/flights/new/a%20b%231.parquet",
        "http://127.0.0.1:10000/acct/input/flights/new/a%20b%231.parquet/",
    ],
)
def test_every_form_of_a_blobs_url_names_the_same_blob(url: str) -> None:
    assert parse_blob_url(url) == _WANTED


@pytest.mark.parametrize(
    "url",
    ["", "input/a.parquet", "https://example.com/input/a", "https://acct.blob.core.windows.net/input", "ftp://x/y/z"],
)
def test_what_names_no_blob_is_refused(url: str) -> None:
    with pytest.raises(CommandError, match="expected the URL of a blob"):
        parse_blob_url(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://[x", "is no URL"),
        ("https://acct.blob.core.windows.net/input/a?b.parquet", "write %3F or %23"),
        ("https://acct.blob.core.windows.net/input/a#b.parquet", "write %3F or %23"),
        ("https://acct.blob.core.windows.net/input/a.parquet?sig=x", "write %3F or %23"),
    ],
)
def test_a_url_that_would_be_cut_or_cannot_be_read_is_refused(url: str, told: str) -> None:
    with pytest.raises(CommandError, match=told):
        parse_blob_url(url)
