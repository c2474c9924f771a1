"""Runs Spark in notebooks through the real runner: abfss paths end in Azurite, and nowhere else."""

import os
import subprocess
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient

from local.databricks.runner.jvm import MODULE_OPTIONS
from local.spark.java import find_java
from tests.support.azurite import azurite_running
from tests.support.notebook_runs import CLUSTER_PYTHON, NotebookWorld

pytestmark = pytest.mark.integration

_STORAGE = """
base = "abfss://extra@tidegatelocal.dfs.core.windows.net/tables"
frame = spark.range(100).selectExpr("id", "id % 3 AS part")
frame.write.partitionBy("part").parquet(f"{base}/parquet")
frame.where("part = 0").write.format("delta").partitionBy("part").save(f"{base}/delta")
frame.where("part = 1").write.format("delta").mode("overwrite").option("replaceWhere", "part = 1").save(f"{base}/delta")
print(spark.read.parquet(f"{base}/parquet").count(), spark.read.format("delta").load(f"{base}/delta").count())
print([entry.name for entry in dbutils.fs.ls(f"{base}/parquet")])
"""
_FILES = """
dbutils.fs.put("dbfs:/tmp/a.txt", "tide", True)
dbutils.fs.cp("dbfs:/tmp/a.txt", f"{base}/a.txt")
dbutils.fs.mv(f"{base}/a.txt", f"{base}/b.txt")
print(dbutils.fs.head(f"{base}/b.txt", 3), dbutils.fs.rm(f"{base}/b.txt"), dbutils.fs.rm("/tmp", True))
spark.range(3).write.mode("overwrite").saveAsTable("kept")
"""
_UNMAPPED = """
try:
    spark.read.parquet("abfss://elsewhere@tidegatelocal.dfs.core.windows.net/x").count()
except Exception as error:
    print("failed:", "elsewhere@tidegatelocal" in str(error))
try:
    spark.read.parquet("abfss://input@realaccount.dfs.core.windows.net/x").count()
except Exception as error:
    print("failed:", "input@realaccount" in str(error))
"""
_AFTER_RESTART = """
from pyspark.sql import SparkSession
session = SparkSession.getActiveSession()
assert SparkSession.builder.getOrCreate() is session
print(session.table("seen").count(), session.conf.get("spark.databricks.service.client.enabled"))
print("base" in dir())
"""
_RUNTIME = """
from databricks.sdk.runtime import dbutils as same, spark as session
import pandas as pd
def double(batches):
    for batch in batches:
        yield pd.DataFrame({"id": batch.id * 2})
print(same is dbutils, sorted(row.id for row in session.range(3).mapInPandas(double, "id long").collect()))
"""


def test_spark_reads_and_writes_the_local_storage(tmp_path: Path) -> None:
    """The URLs are those of Azure; a container or account that is not mounted cannot be reached at all."""
    with azurite_running() as azurite:
        _make_container(azurite.connection_string, "extra")
        world = NotebookWorld(tmp_path, account=azurite.account, key=azurite.key, blob_port=azurite.blob_port)

        run = world.run(
            _STORAGE,
            _FILES,
            "# MAGIC %sql\n# MAGIC CREATE TEMPORARY VIEW seen AS SELECT * FROM kept; SELECT max(id) AS top FROM seen",
            "# MAGIC %fs ls /user/hive/warehouse",
            _UNMAPPED,
            "# MAGIC %restart_python",
            _AFTER_RESTART,
            _RUNTIME,
        )

        written = _blobs(azurite.connection_string, "extra")
    assert run.exit_code == 0, run.explanation
    assert run.cell(0)["outputs_text"] == "100 67\n['_SUCCESS', 'part=0/', 'part=1/', 'part=2/']\n"
    assert run.cell(1)["outputs_text"] == "Wrote 4 bytes.\ntid True True\n"
    assert "<th>top</th>" in run.cell(2)["outputs_html"]
    assert "<td>2</td>" in run.cell(2)["outputs_html"]
    assert "<td>dbfs:/user/hive/warehouse/kept/</td>" in run.cell(3)["outputs_html"]
    assert run.cell(4)["outputs_text"] == "failed: True\nfailed: True\n"
    assert run.cell(6)["outputs_text"] == "3 false\nFalse\n"
    assert run.cell(7)["outputs_text"] == "True [0, 2, 4]\n"
    assert any(name.startswith("tables/delta/_delta_log/") for name in written)
    assert any(name.startswith("tables/parquet/part=2/part-") for name in written)


def test_the_jvm_is_started_as_sparks_own_launcher_would(tmp_path: Path) -> None:
    """The runner leaves the launcher out to save its time, so it must give the JVM the same options."""
    submit = CLUSTER_PYTHON.parent / "spark-submit"
    environment = {
        "JAVA_HOME": str(find_java().home),
        "PATH": f"{CLUSTER_PYTHON.parent}:{os.environ['PATH']}",
        "SPARK_PRINT_LAUNCH_COMMAND": "1",
        "HOME": str(tmp_path),
    }

    printed = subprocess.run([submit, "--version"], env=environment, capture_output=True, text=True, check=True)

    (command,) = [line for line in printed.stderr.splitlines() if line.startswith("Spark Command:")]
    words = command.split()
    options = words[
        words.index("-XX:+IgnoreUnrecognizedVMOptions") : words.index("org.apache.spark.deploy.SparkSubmit")
    ]
    assert tuple(options) == MODULE_OPTIONS


def _make_container(connection_string: str, name: str) -> None:
    with BlobServiceClient.from_connection_string(connection_string) as client:
        client.create_container(name).close()


def _blobs(connection_string: str, container: str) -> list[str]:
    with BlobServiceClient.from_connection_string(connection_string) as client:
        return [str(blob.name) for blob in client.get_container_client(container).list_blobs()]
