"""Gives the notebook its Spark session, built in the background while the first cells run."""

import os
import struct
import threading
import time
from typing import Any

from .handover import Handover, write_log
from .jvm import Jvm, JvmError, mount_settings
from .request import Request

__all__ = ["LazySpark", "SparkStart", "connect"]

_JVM_DEADLINE_S = 120.0
_POLL_S = 0.02
# Mounted even if they are made while the notebook runs.
_OWN_CONTAINERS = ("input", "scores", "tidegate")


class SparkStart:
    """The session that is being built; everybody who asks waits for the same one."""

    def __init__(self, request: Request, handover: Handover) -> None:
        self._request = request
        self._handover = handover
        self._jvm = handover.jvm
        self._problem = handover.jvm_problem
        self._session: Any = None
        self._error: BaseException | None = None
        self._imported = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spark-start", daemon=True)

    def start(self) -> None:
        """Begin to build the session."""
        self._thread.start()

    def wait_for_hooks(self) -> None:
        """Wait until PySpark is imported, so that a wheel which asks PySpark for the session gets this one."""
        self._imported.wait()

    def get(self) -> Any:
        """Return the session.

        Raises:
            JvmError: Spark could not start; the text says why.
        """
        self._thread.join()
        if self._error is not None:
            raise JvmError(f"Spark could not start: {self._error}") from self._error
        return self._session

    def _run(self) -> None:
        try:
            try:
                _import_pyspark(self)
            finally:
                self._imported.set()
            self._session = self._build()
            self._handover.log_age("Spark session ready")
        except Exception as error:  # noqa: BLE001 - whoever asks for the session is told
            self._error = error

    def _build(self) -> Any:
        if self._jvm is None:
            raise JvmError(self._problem)
        return connect(self._jvm, mount_settings(_containers(self._request), self._request))

    def is_current_thread(self) -> bool:
        """Say whether the caller is the one that builds the session, and must not wait for it."""
        return threading.current_thread() is self._thread


class LazySpark:
    """Stands in the namespace for the session until a cell names it."""

    def __init__(self, start: SparkStart) -> None:
        object.__setattr__(self, "_start", start)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        from pyspark.sql import SparkSession

        return SparkSession

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_start").get(), name)

    def __repr__(self) -> str:
        return repr(object.__getattribute__(self, "_start").get())


def _import_pyspark(start: SparkStart) -> None:
    """Import PySpark and make its own ways to the session wait for the one that is being built."""
    from pyspark.sql import SparkSession

    original = SparkSession.getActiveSession

    def get_active_session() -> Any:
        if not start.is_current_thread():
            start.get()
        return original() or SparkSession._instantiatedSession  # noqa: SLF001 - PySpark has no other way

    SparkSession.getActiveSession = staticmethod(get_active_session)  # type: ignore[method-assign]
    get_or_create = SparkSession.Builder.getOrCreate

    def wait_and_get(self: Any) -> Any:
        if not start.is_current_thread():
            start.get()
        return get_or_create(self)

    SparkSession.Builder.getOrCreate = wait_and_get  # type: ignore[method-assign]


def connect(jvm: Jvm, settings: dict[str, str]) -> Any:
    """Return the session of a JVM: a new one, or the one that an earlier Python process created there."""
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    port, secret = _await_connection(jvm)
    os.environ["PYSPARK_GATEWAY_PORT"], os.environ["PYSPARK_GATEWAY_SECRET"] = str(port), secret
    gateway = launch_gateway()  # type: ignore[no-untyped-call]
    SparkContext._ensure_initialized(gateway=gateway)  # noqa: SLF001 - as PySpark's own shells do
    existing = gateway.jvm.org.apache.spark.sql.classic.SparkSession.getDefaultSession()
    if existing.isDefined():
        java_session = existing.get()
        java_context = gateway.jvm.org.apache.spark.api.java.JavaSparkContext.fromSparkContext(
            java_session.sparkContext()
        )
        return SparkSession(SparkContext(gateway=gateway, jsc=java_context), java_session)
    builder = SparkSession.builder
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def _containers(request: Request) -> list[str]:
    """Return the containers to mount: the account's, and those that a run may create."""
    from azure.storage.blob import BlobServiceClient

    storage = request.storage
    credential = {"account_name": storage.account, "account_key": storage.key}
    try:
        with BlobServiceClient(
            storage.endpoint, credential=credential, retry_total=1, connection_timeout=5, read_timeout=10
        ) as client:
            listed = [str(container.name) for container in client.list_containers()]
    except Exception as error:  # noqa: BLE001 - a notebook that does not use storage must not fail of it
        write_log(f"could not list the storage account's containers: {error}")
        listed = []
    return sorted({*_OWN_CONTAINERS, *listed})


def _await_connection(jvm: Jvm) -> tuple[int, str]:
    """Return the port and the secret of the JVM's gateway once it has written them."""
    deadline = time.monotonic() + _JVM_DEADLINE_S
    while time.monotonic() < deadline:
        if jvm.connection_file.is_file():
            data = jvm.connection_file.read_bytes()
            port, length = struct.unpack(">ii", data[:8])
            return port, data[8 : 8 + length].decode("utf-8")
        if not _is_running(jvm.pid):
            raise JvmError("the JVM ended while starting, the driver's log says why")
        time.sleep(_POLL_S)
    raise JvmError(f"the JVM was not ready within {_JVM_DEADLINE_S:.0f} s")


def _is_running(pid: int) -> bool:
    try:
        ended, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return ended == 0
