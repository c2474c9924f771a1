"""Starts one whole cloud for all end-to-end tests: starting and training takes most of a minute."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.whole_cloud import WholeCloud, whole_cloud


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeCloud]:
    """A running cloud with a trained champion and a subscriber."""
    state_dir: Path = tmp_path_factory.mktemp("cloud")
    with whole_cloud(state_dir) as running:
        yield running
