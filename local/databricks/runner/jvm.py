"""Starts the JVM that Spark lives in, with a configuration that ends every abfss:// path in the local storage.

The JVM is started as Spark's own launcher would, less the launcher (a JVM and a shell of its own, 0.7 s), and with
settings that suit short jobs on two cores: one collector thread, the quick compiler only, and classes from a shared
archive if set-up has made one (`runner.archive`).
"""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .request import Request

__all__ = ["Jvm", "JvmError", "archive_folder", "find_java_executable", "launch_jvm", "mount_settings", "start_command"]

# As printed by `SPARK_PRINT_LAUNCH_COMMAND=1 spark-submit` of PySpark 4.1; a test compares them with the launcher's.
MODULE_OPTIONS = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "--add-modules=jdk.incubator.vector",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.invoke=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.net=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.cs=ALL-UNNAMED",
    "--add-opens=java.base/sun.security.action=ALL-UNNAMED",
    "--add-opens=java.base/sun.util.calendar=ALL-UNNAMED",
    "--add-opens=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    "-Dio.netty.handler.ssl.defaultEndpointVerificationAlgorithm=NONE",
    "--enable-native-access=ALL-UNNAMED",
    "-Dderby.connection.requireAuthentication=false",
)
_MEMORY = "-Xmx2g"
_SPEED_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")
_VIEW_FS = "org.apache.hadoop.fs.viewfs.ViewFileSystemOverloadScheme"


class JvmError(Exception):
    """Spark's JVM is not there; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Jvm:
    """A started JVM. It lives as long as its standard input stays open."""

    pid: int
    stdin: int
    connection_file: Path


def launch_jvm(
    request: "Request",
    *,
    scratch: Path,
    environment: dict[str, str],
    log: int,
    archive_options: list[str] | None = None,
) -> Jvm:
    """Start the JVM and return at once; it writes the connection file when it is ready.

    Args:
        request: Says which folders and which storage account the paths end in.
        scratch: Where Spark keeps its temporary files.
        environment: The JVM's environment variables.
        log: Descriptor that its output goes to.
        archive_options: In the place of those that use the shared class archive.

    Raises:
        JvmError: There is no fitting Java.
    """
    folder = scratch / "spark"
    folder.mkdir()
    settings, hosts, connection = folder / "spark.conf", folder / "hosts", folder / "connection"
    settings.write_text(_as_properties(_settings(request, scratch=scratch)), encoding="utf-8")
    hosts.write_text(_hosts(request), encoding="utf-8")
    if archive_options is None:
        archive_options = _archive_options(request.spark_jars_dir)
    options = [f"-Djdk.net.hosts.file={hosts}", f"-Djava.io.tmpdir={folder}", *archive_options]
    java = find_java_executable(request.spark_jars_dir, environment)
    process = subprocess.Popen(
        [*start_command(java, request.spark_jars_dir, options), "--properties-file", str(settings), "pyspark-shell"],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        cwd=folder,  # a relative path must not end in the notebook's folder
        env=environment
        | {
            "SPARK_CONNECT_MODE": "0",
            "SPARK_HOME": str(_pyspark()),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(folder),
            "_PYSPARK_DRIVER_CONN_INFO_PATH": str(connection),
        },
        preexec_fn=_ignore_interrupts,  # noqa: PLW1509 - no thread runs yet
    )
    if process.stdin is None:
        raise JvmError("the JVM was started without a pipe")
    stdin = os.dup(process.stdin.fileno())  # ours to keep: Popen closes its own at a moment of its choice
    process.stdin.close()
    return Jvm(pid=process.pid, stdin=stdin, connection_file=connection)


def start_command(java: Path, jars: Path, options: list[str]) -> list[str]:
    """Return the command of Spark's submit class without its arguments."""
    pyspark = _pyspark()
    classes = os.pathsep.join([f"{pyspark}/conf", f"{pyspark}/jars/*", f"{jars}/*"])
    return [
        *(str(java), "-cp", classes, _MEMORY, *_SPEED_OPTIONS, *MODULE_OPTIONS, *options),
        "org.apache.spark.deploy.SparkSubmit",
    ]


def mount_settings(containers: list[str], request: "Request") -> dict[str, str]:
    """Return the Spark settings that end `abfss://` of these containers in the local storage.

    A container that is not mounted fails: the scheme has no other way, so nothing can reach Azure.
    """
    account, port = request.storage.account, request.storage.blob_port
    return {
        f"spark.hadoop.fs.viewfs.mounttable.{container}@{account}.dfs.core.windows.net.linkFallback": (
            f"wasb://{container}@{account}.blob.localhost:{port}/"
        )
        for container in containers
    }


def archive_folder(jars: Path) -> Path:
    """Return where set-up keeps the shared class archive: beside the jars that it was made from."""
    return jars.parent / "spark-cds"


def find_java_executable(jars: Path, environment: dict[str, str]) -> Path:
    """Return the Java to use: the one that made the archive, or the first that fits.

    Raises:
        JvmError: There is none; the text says how to get one.
    """
    try:
        remembered = Path(json.loads((archive_folder(jars) / "made.json").read_text(encoding="utf-8"))["java"])
    except (OSError, ValueError, KeyError, TypeError):
        remembered = None
    if remembered is not None and os.access(remembered, os.X_OK):
        return remembered
    finder = _load_finder()
    try:
        executable: Path = finder.find_java(environment).executable
    except finder.JavaNotFoundError as error:
        raise JvmError(str(error)) from error
    return executable


def _load_finder() -> Any:
    """Load the finder by its file: the repository itself is not on a notebook's path."""
    file = Path(__file__).resolve().parents[2] / "spark" / "java.py"
    spec = importlib.util.spec_from_file_location("_tidegate_java", file)
    if spec is None or spec.loader is None:
        raise JvmError(f"cannot load {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _archive_options(jars: Path) -> list[str]:
    archive = archive_folder(jars) / "spark.jsa"
    # A stale archive is not used, and says so in the log of the driver.
    return [f"-XX:SharedArchiveFile={archive}"] if archive.is_file() else []


def _settings(request: "Request", *, scratch: Path) -> dict[str, str]:
    storage = request.storage
    scheme = "spark.hadoop.fs.viewfs"
    return {
        "spark.app.name": "Databricks Shell",
        "spark.databricks.clusterUsageTags.sparkVersion": "18.x-cpu-ml-scala2.13",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.databricks.service.client.enabled": "false",
        "spark.default.parallelism": "2",
        "spark.delta.logStore.dbfs.impl": "io.delta.storage.LocalLogStore",  # the scheme is a folder here
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.hadoop.fs.abfss.impl": _VIEW_FS,
        f"spark.hadoop.fs.azure.account.key.{storage.account}.blob.localhost:{storage.blob_port}": storage.key,
        "spark.hadoop.fs.azure.skip.metrics": "true",
        "spark.hadoop.fs.dbfs.impl": _VIEW_FS,
        "spark.hadoop.fs.defaultFS": "dbfs:///",
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",  # no .crc files, as on the platform
        f"{scheme}.mounttable.default.link./Volumes": request.volumes_root.as_uri(),
        f"{scheme}.mounttable.default.link./Workspace": request.workspace_root.as_uri(),
        f"{scheme}.mounttable.default.linkFallback": request.dbfs_root.as_uri(),
        f"{scheme}.overload.scheme.target.dbfs.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        f"{scheme}.overload.scheme.target.wasb.impl": "org.apache.hadoop.fs.azure.NativeAzureFileSystem",
        "spark.local.dir": str(scratch / "spark"),
        "spark.master": "local[2]",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.sources.default": "delta",
        "spark.sql.warehouse.dir": f"{request.dbfs_root.as_uri()}/user/hive/warehouse",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def _hosts(request: "Request") -> str:
    """The JVM resolves these names only: it has no way to another host."""
    names = ["localhost", socket.gethostname(), f"{request.storage.account}.blob.localhost"]
    return f"127.0.0.1 {' '.join(names)}\n"


def _as_properties(settings: dict[str, str]) -> str:
    escaped = ((key.replace(":", "\\:").replace("=", "\\="), value) for key, value in settings.items())
    return "".join(f"{key}={value}\n" for key, value in escaped)


def _pyspark() -> Path:
    """Return PySpark's folder without importing it, which takes half a second."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or not spec.submodule_search_locations:
        raise JvmError("the cluster environment has no PySpark: set it up from locks/cluster.txt")
    return Path(spec.submodule_search_locations[0])


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
