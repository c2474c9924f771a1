"""Measures a cold worker: from the start of its process to the first event handled, beside the naive Function."""

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track

from bench.bench_cloud import NAIVE_PREFIX, OURS_PREFIX, bench_cloud, naive_settings, other_app
from bench.figures import Figure
from bench.workspace_jobs import champion, make_job
from local.functions_host.configuration import read_settings
from local.functions_host.messages import Data, DataKind, Indexed, Invocation
from local.functions_host.worker_process import WorkerProcess, worker_environment
from local.supervisor.folders import REPOSITORY, Folders
from local.supervisor.settings import ACCOUNT, INPUT_CONTAINER

__all__ = ["measure"]

_STARTS: Final = 7
_NAME: Final = "cold_start"
_TOPIC: Final = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/tidegate-local"
    f"/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
)


def measure(console: Console) -> Sequence[Figure]:
    """Return the ratio of the medians of import plus first event handled, over 7 cold starts each in turn."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, bench_cloud(Path(folder)) as settings:
        naive_job = make_job(settings, "naive")
        make_job(settings, "tidegate-local-scoring")
        champion(settings)
        ours = read_settings(Folders(state_dir=Path(folder)).config / "functions.settings.json").values
        naive = naive_settings(settings, naive_job)
        naive_folder = other_app("naive", Path(folder) / "naive")
        seconds: dict[str, list[float]] = {"ours": [], "naive": []}
        for number in track(range(_STARTS), description="cold starts", console=console):
            for side, app, values, function in (
                ("naive", naive_folder, naive, "start_run"),
                ("ours", REPOSITORY, ours, "arrivals"),
            ):
                prefix = NAIVE_PREFIX if side == "naive" else OURS_PREFIX
                event = _event(f"{prefix}cold-{number}.parquet")
                seconds[side].append(asyncio.run(_first_event(app, values, function, event)))
    median = {side: statistics.median(values) for side, values in seconds.items()}
    return [
        Figure(
            measurement=_NAME,
            name="import and first event handled, ours to naive",
            value=median["ours"] / median["naive"],
            unit="x",
            goal=0.4,
            detail=f"{median['ours']:.2f} s to {median['naive']:.2f} s, {_STARTS} starts each",
        )
    ]


async def _first_event(app: Path, values: Mapping[str, str], function: str, event: str) -> float:
    """Return the seconds from the start of a worker process to the answer of its first invocation."""
    started_at = time.perf_counter()
    worker = await WorkerProcess.start(app, worker_environment(values, app))
    try:
        indexed = await worker.indexed()
        if not isinstance(indexed, Indexed):  # an outcome, not a wrong type
            raise RuntimeError(f"the app in {app.name!r} could not be indexed: {indexed.error}")  # noqa: TRY004
        function_id, input_name = _queue_function(indexed, function)
        serving = asyncio.create_task(worker.serve())
        invocation = Invocation(
            invocation_id=str(uuid.uuid4()),
            function_id=function_id,
            inputs={input_name: Data(DataKind.STRING, event)},
            trigger_metadata={"Id": Data(DataKind.STRING, str(uuid.uuid4())), "DequeueCount": Data(DataKind.JSON, "1")},
        )
        completion = await worker.invoke(invocation)
        seconds = time.perf_counter() - started_at
        if completion.error is not None:
            raise RuntimeError(f"the first event failed: {completion.error}\n{completion.stack_trace}")
    finally:
        await worker.stop(grace_s=0)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    await worker.close()
    return seconds


def _queue_function(indexed: Indexed, name: str) -> tuple[str, str]:
    """Return the id of a function and the name of its queue binding."""
    found = next(metadata for metadata in indexed.functions if metadata.name == name)
    bindings = [json.loads(binding) for binding in found.raw_bindings]
    binding = next(binding for binding in bindings if binding["type"].lower() == "queuetrigger")
    return found.function_id, binding["name"]


def _event(path: str) -> str:
    """Return the event of a blob that nobody else was told of, so that the worker is the first to see it."""
    event = {
        "topic": _TOPIC,
        "subject": f"/blobServices/default/containers/{INPUT_CONTAINER}/blobs/{path}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "id": str(uuid.uuid4()),
        "data": {
            "api": "PutBlob",
            "clientRequestId": str(uuid.uuid4()),
            "requestId": str(uuid.uuid4()),
            "eTag": f"0x{time.time_ns():X}",
            "contentType": "application/octet-stream",
            "contentLength": 1024,
            "blobType": "BlockBlob",
            "url": f"https://{ACCOUNT}.blob.core.windows.net/{INPUT_CONTAINER}/{path}",
            "sequencer": f"{time.time_ns():048x}",
        },
        "dataVersion": "",
        "metadataVersion": "1",
    }
    return json.dumps(event)
