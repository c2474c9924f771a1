"""Carries out the recipes of docs/operations.md that need the local cloud itself, with the `tidegate` command."""

import json

import pytest

from tests.support.whole_cloud import WholeCloud

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.mark.recipe("The ledger has rows of an earlier release")
def test_the_ledger_says_how_far_it_is_and_is_brought_up_to_date(world: WholeCloud) -> None:
    migrated = world.tidegate("ledger", "migrate")
    status = json.loads(world.tidegate("ledger", "status", "--json"))

    assert "Every row of the ledger is in layout 2" in migrated
    assert status["is_complete"] is True


def test_the_commands_of_the_local_cloud_find_it_by_themselves(world: WholeCloud) -> None:
    """Without TIDEGATE_API_URL they speak to the cloud of this clone, and name pages where its workspace is."""
    trained = json.loads(world.tidegate("runs", "--state", "completed", "--json").splitlines()[-1])
    story = world.tidegate("explain", trained["id"])
    history = world.tidegate("arrivals", "--state", "ignored")

    assert trained["pipeline"] == "flight_delay_training"
    assert f"  run_page_url: {world.settings.url('workspace')}/jobs/" in story
    assert "flights/history/2013-01.parquet" in history
    assert "There was no signal yet" in world.tidegate("signals")
