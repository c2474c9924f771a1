"""Sends spans of the control plane through Azure Monitor's own exporter, and finds them as one trace."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from functions.adapters.telemetry import SpanTelemetry, azure_monitor_exporter
from tests.support.app_insights import running_app_insights
from tests.support.event_grid import eventually

pytestmark = pytest.mark.integration

_REPOSITORY = Path(__file__).parents[2]
# Modules that a cold worker must not pay for before its first arrival is recorded.
_HEAVY = ("azure.identity", "azure.monitor", "azure.eventgrid", "azure.storage.blob", "databricks", "opentelemetry")


def test_spans_of_one_event_are_one_operation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """R58: whoever holds the traceparent, the item has its operation id."""
    with running_app_insights(tmp_path) as insights:
        telemetry = SpanTelemetry(
            lambda: azure_monitor_exporter(insights.connection_string, client_id=None, is_signed_in=False),
            first_export_after_s=0,
            export_every_s=0.1,
        )
        with telemetry.span("arrival", pipeline="p") as arrival:
            handed_on = arrival.traceparent
        with telemetry.span("dispatch", traceparent=handed_on):
            pass
        telemetry.close(timeout_s=30)
        trace_id = handed_on.split("-")[1]

        def look() -> list[dict[str, object]]:
            found = requests.get(f"{insights.url}/telemetry", params={"operation_id": trace_id}, timeout=5).json()
            return list(found) if len(found) == 2 else []

        items = eventually(look)

    assert len(items) == 2
    assert [record.getMessage() for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


def test_importing_the_app_imports_no_heavy_sdk() -> None:
    """Cold start: what is not needed to record an arrival is not loaded."""
    code = (
        "import sys, function_app\n"
        f"print([name for name in {_HEAVY!r} if any(m == name or m.startswith(name + '.') for m in sys.modules)])"
    )

    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "[]"
    assert time.monotonic() - began < 30


def test_recording_an_arrival_imports_no_heavy_sdk(tmp_path: Path) -> None:
    """Likewise for the first arrival of a cold worker, which hands its run to the dispatcher."""
    from tests.support.azurite import azurite_running
    from tests.support.control_plane import blob_message, make_blob

    message = tmp_path / "message"
    message.write_text(blob_message(make_blob()))
    code = (
        "import sys, function_app\n"
        "from dataclasses import replace\n"
        "from functions.adapters.work_queue import HandOffQueue\n"
        "from functions.services.arrive import arrive\n"
        "from functions.wiring import control_plane\n"
        "class Binding:\n"
        "    def set(self, val): print(val, file=sys.stderr)\n"
        "plane = control_plane()\n"
        "plane = replace(plane, queue=HandOffQueue(Binding(), plane.queue))\n"
        f"arrive(plane, open({str(message)!r}).read())\n"
        f"print([name for name in {_HEAVY!r} if any(m == name or m.startswith(name + '.') for m in sys.modules)])\n"
    )
    with azurite_running() as azurite:
        settings = {
            "TIDEGATE_STORAGE": azurite.connection_string,
            "TIDEGATE_ENVIRONMENT": "local",
            "DATABRICKS_HOST": "http://127.0.0.1:9",
            "EVENTGRID_TOPIC_ENDPOINT": "http://127.0.0.1:9/topics/t/api/events",
            "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=00000000-0000-0000-0000-000000000000",
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=_REPOSITORY,
            env=settings,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

    assert done.stdout.strip() == "[]"
    assert '"kind": "close_batch"' in done.stderr
