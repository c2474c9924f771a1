"""Starts one Azurite for all contract tests that want the real storage."""

from collections.abc import Iterator

import pytest

from tests.support.azurite import Azurite, azurite_running


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    with azurite_running() as running:
        yield running
