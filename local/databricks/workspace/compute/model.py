"""Remembers clusters and what they would give a run."""

import json
import re
import secrets
import sqlite3
from dataclasses import dataclass

from local.databricks.workspace.clock import Clock
from local.databricks.workspace.transport.errors import InvalidParameterError
from local.databricks.workspace.transport.params import JsonObject

__all__ = ["NODE_TYPES", "SPARK_VERSIONS", "Cluster", "ClusterBook"]

SPARK_VERSIONS = {
    "18.x-cpu-ml-scala2.13": "18 LTS ML (includes Apache Spark 4.1, Scala 2.13)",
    "18.x-scala2.13": "18 LTS (includes Apache Spark 4.1, Scala 2.13)",
    "16.4.x-cpu-ml-scala2.12": "16.4 LTS ML (includes Apache Spark 3.5.2, Scala 2.12)",
    "16.4.x-scala2.12": "16.4 LTS (includes Apache Spark 3.5.2, Scala 2.12)",
}
"""What the listing offers; a cluster may name any other, and a local run has the environment of 18 LTS ML always."""

NODE_TYPES = (("Standard_D4ds_v5", 4, 16), ("Standard_D8ds_v5", 8, 32), ("Standard_E8ds_v5", 8, 64))
"""Name, cores and memory in GiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster as it was asked for; its state is RUNNING or TERMINATED."""

    cluster_id: str
    spec: JsonObject
    state: str
    created_ms: int


class ClusterBook:
    """Clusters in the workspace's database."""

    def __init__(self, database: sqlite3.Connection, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def create(self, spec: JsonObject) -> Cluster:
        """Return a new cluster, running at once."""
        stem = re.sub(r"[^a-z0-9]+", "-", str(spec.get("cluster_name", "cluster")).lower()).strip("-")[:20]
        cluster_id = f"{stem or 'cluster'}-{secrets.token_hex(4)}"
        self._database.execute(
            "INSERT INTO clusters VALUES (?, ?, 'RUNNING', ?)", (cluster_id, json.dumps(spec), self._clock.now_ms())
        )
        return self.get(cluster_id)

    def get(self, cluster_id: str) -> Cluster:
        """Return the cluster of that id."""
        row = self._database.execute("SELECT * FROM clusters WHERE cluster_id = ?", (cluster_id,)).fetchone()
        if row is None:
            raise InvalidParameterError(f"Cluster {cluster_id} does not exist")
        return _from_row(row)

    def list(self) -> list[Cluster]:
        """Return all clusters, newest first."""
        rows = self._database.execute("SELECT * FROM clusters ORDER BY created_ms DESC, cluster_id").fetchall()
        return [_from_row(row) for row in rows]

    def set_state(self, cluster_id: str, state: str) -> None:
        """Start or terminate a cluster, in the books."""
        self.get(cluster_id)
        self._database.execute("UPDATE clusters SET state = ? WHERE cluster_id = ?", (state, cluster_id))

    def remove(self, cluster_id: str) -> None:
        """Forget a cluster."""
        self.get(cluster_id)
        self._database.execute("DELETE FROM clusters WHERE cluster_id = ?", (cluster_id,))

    def environment_of(self, cluster_id: str) -> dict[str, str]:
        """Return a cluster's `spark_env_vars`; empty for a cluster that the books do not know."""
        try:
            spec = self.get(cluster_id).spec
        except InvalidParameterError:
            return {}
        return {str(key): str(value) for key, value in (spec.get("spark_env_vars") or {}).items()}


def _from_row(row: sqlite3.Row) -> Cluster:
    return Cluster(
        cluster_id=row["cluster_id"], spec=json.loads(row["spec"]), state=row["state"], created_ms=row["created_ms"]
    )
