"""Works out the environment variables that a task's cluster gives it."""

import re

from local.databricks.workspace.compute.model import ClusterBook
from local.databricks.workspace.jobs.settings import TaskSpec
from local.databricks.workspace.secret_scopes.model import SecretStore

__all__ = ["ClusterEnvironment"]

_SECRET = re.compile(r"\{\{secrets/([^/{}]+)/([^/{}]+)\}\}")


class ClusterEnvironment:
    """`spark_env_vars`, with references such as `{{secrets/scope/key}}` resolved."""

    def __init__(self, clusters: ClusterBook, secrets: SecretStore) -> None:
        self._clusters = clusters
        self._secrets = secrets

    def of_task(self, task: TaskSpec) -> dict[str, str]:
        """Return the variables; raises DoesNotExistError for a secret that is not there."""
        own = self._clusters.environment_of(task.existing_cluster_id) if task.existing_cluster_id else {}
        return {key: _SECRET.sub(self._value, value) for key, value in {**own, **task.environment}.items()}

    def _value(self, match: re.Match[str]) -> str:
        return self._secrets.get(match[1], match[2]).decode()
