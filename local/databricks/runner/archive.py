"""Makes the archive of Spark's classes that lets every later JVM start in half the time.

Run at set-up, with the cluster's Python and `PYTHONPATH=local/databricks`:
`python -m runner.archive --spark-jars-dir .tools/spark-jars`. Takes about 40 s once, and nothing if there is an archive
of the same jars and the same Java. Without an archive everything works, only slower.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .environment import notebook_environment
from .jvm import Jvm, JvmError, archive_folder, find_java_executable, launch_jvm
from .request import Request, Storage
from .spark_session import connect

_DEADLINE_S = 300.0
# Reached only with a storage account, which set-up does not have: loaded by name.
_STORAGE_CLASSES = (
    "com.microsoft.azure.storage.blob.CloudBlobClient",
    "com.microsoft.azure.storage.blob.CloudBlockBlob",
    "com.microsoft.azure.storage.core.StorageRequest",
    "org.apache.hadoop.fs.azure.AzureNativeFileSystemStore",
    "org.apache.hadoop.fs.azure.BlockBlobAppendStream",
    "org.apache.hadoop.fs.azure.NativeAzureFileSystem",
    "org.apache.hadoop.fs.azure.StorageInterfaceImpl",
    "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme",
    "org.apache.spark.sql.delta.storage.AzureLogStore",
    "io.delta.storage.AzureLogStore",
)


def main(argv: list[str] | None = None) -> int:
    """Make the archive unless it is there; return 1 with a sentence on failure."""
    parser = argparse.ArgumentParser(prog="python -m runner.archive", description=__doc__)
    parser.add_argument("--spark-jars-dir", type=Path, required=True)
    jars = parser.parse_args(argv).spark_jars_dir.absolute()
    try:
        _make_archive(jars)
    except (JvmError, OSError) as error:
        sys.stderr.write(f"spark archive: not made, Spark will start more slowly: {error}\n")
        return 1
    return 0


def _make_archive(jars: Path) -> None:
    with jars.with_name("spark-cds.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two set-ups of one checkout: the second finds the first one's work
        _make_archive_alone(jars)


def _make_archive_alone(jars: Path) -> None:
    folder = archive_folder(jars)
    made = folder / "made.json"
    java = find_java_executable(jars, dict(os.environ))
    fingerprint = _fingerprint(jars, java)
    if made.is_file() and json.loads(made.read_text(encoding="utf-8")).get("of") == fingerprint:
        sys.stdout.write("spark archive: present\n")
        return
    sys.stdout.write("spark archive: running Spark once to see which classes it needs (about 40 s)\n")
    sys.stdout.flush()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as temporary:
        archive = _dump(jars, Path(temporary))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        archive.rename(folder / "spark.jsa")
    made.write_text(json.dumps({"of": fingerprint, "java": str(java)}), encoding="utf-8")
    sys.stdout.write(f"spark archive: made in {time.monotonic() - started:.0f} s\n")


def _dump(jars: Path, scratch: Path) -> Path:
    """Run a small job in a JVM that writes the archive when it ends; return the archive."""
    for name in ("workspace", "dbfs", "volumes"):
        (scratch / name).mkdir()
    request = _request(jars, scratch)
    archive, log = scratch / "spark.jsa", scratch / "log"
    environment = notebook_environment(request, inherited=os.environ, python=Path(sys.executable), scratch=scratch)
    with log.open("wb") as handle:
        jvm = launch_jvm(
            request,
            scratch=scratch,
            environment=environment,
            log=handle.fileno(),
            archive_options=[f"-XX:ArchiveClassesAtExit={archive}"],
        )
    try:
        session = connect(jvm, {})
        try:
            _exercise(session)
        except Exception as error:
            raise JvmError(f"the trial job failed: {str(error)[:500]}") from error
        # Its helper thread would print that the JVM went away.
        session.sparkContext._accumulatorServer.handle_error = lambda *_: None  # noqa: SLF001 - PySpark offers no switch
        session.stop()
    finally:
        os.close(jvm.stdin)  # asks the JVM to end
        _await_end(jvm)
    if not archive.is_file():
        raise JvmError(f"the JVM wrote none: {log.read_text(encoding='utf-8', errors='replace')[-500:]}")
    return archive


def _exercise(session: Any) -> None:
    """Do a little of what notebooks do."""
    for name in _STORAGE_CLASSES:
        try:
            session._jvm.java.lang.Class.forName(name)  # noqa: SLF001 - PySpark's only way to the JVM
        except Exception:  # noqa: BLE001 - a class that moved costs a few milliseconds later, no more
            sys.stderr.write(f"spark archive: no class {name}\n")
    frame = session.range(1000).selectExpr("id", "id % 5 AS part", "CAST(id AS DOUBLE) / 7 AS score", "'x' AS name")
    frame.write.mode("overwrite").partitionBy("part").parquet("/archive/parquet")
    parquet = session.read.parquet("/archive/parquet")
    parquet.mapInPandas(lambda batches: batches, parquet.schema).groupBy("part").avg("score").collect()
    parquet.write.partitionBy("part").format("delta").save("/archive/delta")
    parquet.write.mode("overwrite").format("delta").option("replaceWhere", "part >= 0").save("/archive/delta")
    delta = session.read.format("delta").load("/archive/delta").createOrReplaceTempView("archived")
    del delta
    session.sql("SELECT part, count(*), sum(score) FROM archived WHERE id > 5 GROUP BY part ORDER BY part").toPandas()
    session.read.option("header", True).csv(
        session.sparkContext.parallelize(["a,b", "1,2"], 1)  # also a Python worker of the older protocol
    ).count()


def _request(jars: Path, scratch: Path) -> Request:
    """A request whose storage is never reached."""
    return Request(
        run_id=0,
        task_run_id=0,
        job_id=0,
        task_key="archive",
        notebook_path="/archive",
        notebook_file=scratch / "workspace" / "archive",
        workspace_root=scratch / "workspace",
        dbfs_root=scratch / "dbfs",
        volumes_root=scratch / "volumes",
        parameters={},
        env={},
        spark_jars_dir=jars,
        storage=Storage(account="none", key="a2V5", blob_port=1),
        result_file=scratch / "result.json",
        output_dir=scratch,
        host="http://127.0.0.1:1",
        token="none",  # noqa: S106 - no workspace is asked
    )


def _await_end(jvm: Jvm) -> None:
    """Wait until the JVM has written the archive and is gone."""
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        ended, _ = os.waitpid(jvm.pid, os.WNOHANG)
        if ended:
            return
        time.sleep(0.1)
    os.kill(jvm.pid, 9)
    os.waitpid(jvm.pid, 0)
    raise JvmError(f"the JVM did not end within {_DEADLINE_S:.0f} s")


def _fingerprint(jars: Path, java: Path) -> str:
    """Return what an archive depends on: the Java, and the jars with their times and sizes."""
    from importlib.util import find_spec

    spec = find_spec("pyspark")
    folders = [jars, *(Path(place) / "jars" for place in (spec.submodule_search_locations if spec else None) or ())]
    facts = [str(java.resolve()), str(java.resolve().stat().st_mtime_ns)]
    for folder in folders:
        facts += [f"{jar}:{jar.stat().st_size}:{jar.stat().st_mtime_ns}" for jar in sorted(folder.glob("*.jar"))]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
