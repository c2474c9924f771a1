"""Timer functions on the local Functions host, with their status in a real Azurite."""

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient

from tests.support.azurite import Azurite, azurite_running
from tests.support.functions_host import functions_host_running, until
from tests.support.functions_host_records import LISTENERS_APP, Records, listener_settings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def azurite() -> Iterator[Azurite]:
    with azurite_running() as running:
        yield running


@pytest.fixture
def blobs(azurite: Azurite) -> Iterator[BlobServiceClient]:
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        with suppress(ResourceExistsError):
            service.create_container("azure-webjobs-hosts")
        yield service


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "records.jsonl")


@pytest.fixture
def host_id() -> str:
    return f"timers-{uuid.uuid4().hex[:8]}"


def _status(blobs: BlobServiceClient, host_id: str, function: str) -> dict[str, str]:
    blob = blobs.get_blob_client("azure-webjobs-hosts", f"timers/{host_id}/Host.Functions.{function}/status")
    try:
        content: dict[str, str] = json.loads(blob.download_blob().readall())
    except ResourceNotFoundError:
        return {}
    return content


def test_a_timer_fires_on_the_second_and_never_overlaps_itself(
    azurite: Azurite, records: Records, host_id: str
) -> None:
    """Each run takes longer than the interval, so every other second is left out."""
    settings = listener_settings(azurite, records, host_id, TICK="* * * * * *")
    with functions_host_running(LISTENERS_APP, settings):
        until(lambda: len(records.all("tick", done=True)) >= 2, what="two runs")

    marks = ["end" if "done" in entry else "start" for entry in records.all("tick")][:4]
    starts = [entry["at"] for entry in records.all("tick") if "done" not in entry]
    assert marks == ["start", "end", "start", "end"]
    assert starts[1] - starts[0] == pytest.approx(2, abs=0.5)
    assert all(entry["past_due"] is False for entry in records.all("tick") if "done" not in entry)


def test_a_timer_that_was_missed_runs_once_at_start_as_past_due(
    azurite: Azurite, blobs: BlobServiceClient, records: Records, host_id: str
) -> None:
    """However many occurrences passed while the host was down."""
    three_years_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3 * 365)
    due = datetime(three_years_ago.year + 1, 1, 1, 3, tzinfo=UTC)
    stored = {
        "Last": three_years_ago.isoformat(),
        "Next": due.isoformat(),
        "LastUpdated": three_years_ago.isoformat(),
    }
    name = f"timers/{host_id}/Host.Functions.nightly/status"
    blobs.get_blob_client("azure-webjobs-hosts", name).upload_blob(json.dumps(stored))
    settings = listener_settings(azurite, records, host_id)

    with functions_host_running(LISTENERS_APP, settings):
        until(lambda: records.all("nightly"), what="the missed run")
        until(lambda: _status(blobs, host_id, "nightly")["Last"] > stored["Last"], what="the new status")
        until(lambda: records.all("at_start", retry=2), what="the first host's last retry, or the count below is short")
    with functions_host_running(LISTENERS_APP, settings):
        until(lambda: len(records.all("at_start", retry=2)) == 2, what="a second host that listens")

    (entry,) = records.all("nightly")
    assert entry["past_due"] is True
    assert entry["status"] == stored


def test_a_first_start_is_not_past_due_and_leaves_a_status(
    azurite: Azurite, blobs: BlobServiceClient, records: Records, host_id: str
) -> None:
    with functions_host_running(LISTENERS_APP, listener_settings(azurite, records, host_id)):
        status = until(lambda: _status(blobs, host_id, "nightly"), what="the status")

    assert status["Last"] == "0001-01-01T00:00:00"
    assert status["Next"] == f"{datetime.now(UTC).year + 1}-01-01T03:00:00+00:00"
    assert not records.all("nightly")


def test_run_on_startup_runs_at_once_and_its_retry_policy_is_honoured(
    azurite: Azurite, records: Records, host_id: str
) -> None:
    with functions_host_running(LISTENERS_APP, listener_settings(azurite, records, host_id)):
        until(lambda: records.all("at_start", retry=2), what="the second retry")

    assert [(entry["retry"], entry["past_due"]) for entry in records.all("at_start")] == [
        (0, False),
        (1, False),
        (2, False),
    ]


def test_a_timer_that_fires_often_keeps_no_status(
    azurite: Azurite, blobs: BlobServiceClient, records: Records, host_id: str
) -> None:
    with functions_host_running(LISTENERS_APP, listener_settings(azurite, records, host_id, TICK="*/2 * * * * *")):
        until(lambda: records.all("tick", done=True), what="a run")

    assert _status(blobs, host_id, "tick") == {}
