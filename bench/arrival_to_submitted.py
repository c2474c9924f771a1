"""Measures the time from an upload to the run that it starts, beside the naive Function, event by event in turn."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from azure.storage.blob import BlobServiceClient
from rich.console import Console
from rich.progress import track

from bench.bench_cloud import NAIVE_PREFIX, OURS_PREFIX, bench_cloud, naive_settings, other_app
from bench.figures import Figure
from bench.workspace_jobs import champion, make_job, newest_run
from local.supervisor.folders import REPOSITORY
from local.supervisor.ports import choose_ports
from local.supervisor.settings import INPUT_CONTAINER, CloudSettings

__all__ = ["measure"]

_EVENTS: Final = 200
_WARM_UP: Final = 5
_DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.02
_NAME: Final = "arrival_to_submitted"


def measure(console: Console) -> Sequence[Figure]:
    """Return the ratios at the median and at the 99th percentile over 200 events each."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder, bench_cloud(Path(folder)) as settings:
        jobs = {"naive": make_job(settings, "naive"), "ours": make_job(settings, "tidegate-local-scoring")}
        champion(settings)
        with _naive_host(settings, Path(folder), jobs["naive"]):
            seconds: dict[str, list[float]] = {"naive": [], "ours": []}
            for number in track(range(_WARM_UP + _EVENTS), description="uploads", console=console):
                for side, prefix in (("naive", NAIVE_PREFIX), ("ours", OURS_PREFIX)):
                    seconds[side].append(_upload_and_wait(settings, f"{prefix}{number:04}.parquet", jobs[side]))
    return _figures({side: values[_WARM_UP:] for side, values in seconds.items()})


def _figures(seconds: dict[str, list[float]]) -> list[Figure]:
    figures = []
    for name, goal, pick in (("median", 1.5, statistics.median), ("99th percentile", 2.0, _percentile_99)):
        ours, naive = pick(seconds["ours"]), pick(seconds["naive"])
        figures.append(
            Figure(
                measurement=_NAME,
                name=f"{name}, ours to naive",
                value=ours / naive,
                unit="x",
                goal=goal,
                detail=f"{ours * 1000:.0f} ms to {naive * 1000:.0f} ms, {len(seconds['ours'])} events each",
            )
        )
    median = statistics.median(seconds["ours"])
    figures.append(Figure(measurement=_NAME, name="upload to submitted, median", value=median, unit="s", goal=2.0))
    return figures


def _percentile_99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _upload_and_wait(settings: CloudSettings, path: str, job_id: int) -> float:
    """Upload one blob; return the seconds from the answered upload to the start of its run, as the workspace noted."""
    before = newest_run(settings, job_id)
    service = BlobServiceClient.from_connection_string(settings.storage_connection_string)
    with service.get_blob_client(INPUT_CONTAINER, path) as blob:
        blob.upload_blob(path.encode(), overwrite=True)
    uploaded_at = time.time()
    run = _wait(lambda: (found := newest_run(settings, job_id)) != before and found, f"the run of {path}")
    return max(run[1] / 1000 - uploaded_at, 0.0)


def _wait[T](look: Callable[[], T | bool | None], what: str) -> T:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        found = look()
        if found is not None and not isinstance(found, bool):
            return found
        time.sleep(_POLL_S)
    raise TimeoutError(f"{what} did not come within {_DEADLINE_S:g} s")


@contextmanager
def _naive_host(settings: CloudSettings, folder: Path, job_id: int) -> Iterator[None]:
    """Serve the naive app with a host of its own."""
    app = other_app("naive", folder / "naive")
    port = choose_ports({}, {})["functions"]
    settings_file = app / "local.settings.json"
    document = {
        "IsEncrypted": False,
        "Values": naive_settings(settings, job_id),
        "Host": {"Keys": {"default": settings.function_key, "master": settings.master_key}},
    }
    settings_file.write_text(json.dumps(document))
    command = [sys.executable, "-m", "local.functions_host", "--app-dir", str(app), "--port", str(port)]
    with (folder / "naive.log").open("ab") as log:
        process = subprocess.Popen([*command, "--settings", str(settings_file)], cwd=REPOSITORY, stdout=log, stderr=log)
    try:
        _wait(lambda: _answers(f"http://127.0.0.1:{port}/admin/host/ping"), "the naive app's host")
        yield
    finally:
        process.terminate()
        process.wait(timeout=15)


def _answers(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except (urllib.error.URLError, OSError):
        return None
