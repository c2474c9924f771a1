"""Offers the modules of the platform's runtime that libraries import to find the notebook they run in."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from .shell import DriverShell
from .spark_session import SparkStart

__all__ = ["install_runtime_modules"]


def install_runtime_modules(shell: DriverShell, context: SimpleNamespace, spark: SparkStart) -> None:
    """Make `dbruntime` importable, for `databricks.sdk.runtime` and MLflow."""

    class UserNamespaceInitializer:
        """The platform's own access to the notebook's namespace."""

        @staticmethod
        def getOrCreate() -> "UserNamespaceInitializer":  # noqa: N802
            """Return the one there is."""
            return UserNamespaceInitializer()

        def get_namespace_globals(self) -> dict[str, Any]:
            """Return what a notebook has without an import; Spark is there by then."""
            names = shell.user_ns
            session = spark.get()
            from pyspark.sql import functions

            return {
                "dbutils": names["dbutils"],
                "display": names["display"],
                "displayHTML": names["displayHTML"],
                "getArgument": names["getArgument"],
                "sc": session.sparkContext,
                "spark": session,
                "sql": session.sql,
                "sqlContext": session,
                "table": session.table,
                "udf": functions.udf,
            }

    package = ModuleType("dbruntime")
    package.__path__ = []  # a package, so that its modules can be imported
    package.UserNamespaceInitializer = UserNamespaceInitializer  # type: ignore[attr-defined]
    repl = ModuleType("dbruntime.databricks_repl_context")
    repl.get_context = lambda: context  # type: ignore[attr-defined]
    package.databricks_repl_context = repl  # type: ignore[attr-defined]
    sys.modules["dbruntime"] = package
    sys.modules["dbruntime.databricks_repl_context"] = repl
