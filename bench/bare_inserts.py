"""Measures what a table takes at most: bare inserts of one arrival's row each, from as many workers."""

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from bench.bench_cloud import bench_environ
from functions.adapters.storage import StorageAccount
from functions.adapters.tables import AzureTables
from functions.core.ledger import Arrival, Change
from functions.core.ledger_rows import arrival_to_row
from functions.core.model import ArrivalState, BlobVersion, PipelineKey
from functions.core.tokens import arrival_id_of
from local.supervisor.folders import REPOSITORY

__all__ = ["THREADS", "bare_insert_rate", "sample_arrival"]

THREADS: Final = 32  # as many as our worker has messages at a time
_TABLE: Final = "rows"


def bare_insert_rate(connection_string: str, *, workers: int, rows: int) -> float:
    """Return rows a second over all workers."""
    StorageAccount(connection_string=connection_string).tables.create_table_if_not_exists(f"bare{_TABLE}")
    each = rows // workers
    command = [sys.executable, "-m", "bench.bare_inserts", "--rows", str(each)]
    processes = [
        subprocess.Popen(
            [*command, "--worker", str(index)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=bench_environ(),
        )
        for index in range(workers)
    ]
    outputs = []
    for process in processes:  # all are told where the storage is, and begin when they have heard it
        assert process.stdin is not None
        process.stdin.write(connection_string + "\n")
        process.stdin.flush()
    for process in processes:
        text, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError("a worker of bare inserts failed")
        outputs.append([float(part) for part in text.split()])
    return each * workers / (max(end for _, end in outputs) - min(start for start, _ in outputs))


def sample_arrival() -> Arrival:
    """Return an arrival as a storm brings it."""
    now = datetime.now(UTC)
    blob = BlobVersion(
        account="tidegatelocal",
        container="input",
        path="p00/file.parquet",
        etag="0x8D0",
        size_bytes=1000,
        sequencer="0",
    )
    return Arrival(
        id=arrival_id_of(blob),
        blob=blob,
        state=ArrivalState.HELD,
        event_id="0" * 36,
        event_time=now,
        api="PutBlob",
        content_type="application/octet-stream",
        recorded_at=now,
        updated_at=now,
        pipeline=PipelineKey("p00"),
        route="files",
        traceparent="00-" + "0" * 32 + "-" + "0" * 16 + "-01",
        config_version="0" * 16,
        history=(Change(state="held", at=now),),
    )


def main() -> None:
    """Insert rows; print when the first began and the last ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--worker", type=int, required=True)
    options = parser.parse_args()
    table = AzureTables(StorageAccount(connection_string=sys.stdin.readline().strip()), prefix="bare").table(_TABLE)
    row = arrival_to_row(sample_arrival())
    began = time.time()
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(
            lambda index: table.insert("bare", f"{options.worker:02d}.{index:06d}", row), range(options.rows)
        ):
            pass
    print(began, time.time())  # the parent reads it


if __name__ == "__main__":
    main()
