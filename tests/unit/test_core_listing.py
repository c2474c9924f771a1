"""Tests how people name what is to be listed."""

import pytest

from functions.core.listing import parse_blob_place


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://acct.blob.core.windows.net/input/a%20b/%C3%A9%23.x", ("acct", "input", "a b/é#.x")),
        ("https://acct.blob.core.windows.net/input/a%FF", None),  # no UTF-8
        ("https://acct.blob.core.windows.net/input/a?sig=x", None),
        ("http://acct.blob.core.windows.net/input/a", None),
    ],
)
def test_a_blob_is_asked_for_by_the_url_that_people_see(url: str, place: tuple[str, str, str] | None) -> None:
    """R73."""
    assert parse_blob_place(url) == place
