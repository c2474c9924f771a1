"""Has every port in memory, one module each; all pass the contract suites of the real ones."""

from tests.support.in_memory.clock import FixedClock
from tests.support.in_memory.faults import Faults, NoFaults
from tests.support.in_memory.inputs import InMemoryInputs
from tests.support.in_memory.manifests import InMemoryManifests
from tests.support.in_memory.publisher import InMemoryPublisher
from tests.support.in_memory.quarantine import InMemoryQuarantine
from tests.support.in_memory.tables import InMemoryTables, make_ledger
from tests.support.in_memory.telemetry import InMemoryTelemetry
from tests.support.in_memory.work_queue import InMemoryQueue
from tests.support.in_memory.workspace import DatabricksRun, InMemoryWorkspace

__all__ = [
    "DatabricksRun",
    "Faults",
    "FixedClock",
    "InMemoryInputs",
    "InMemoryManifests",
    "InMemoryPublisher",
    "InMemoryQuarantine",
    "InMemoryQueue",
    "InMemoryTables",
    "InMemoryTelemetry",
    "InMemoryWorkspace",
    "NoFaults",
    "make_ledger",
]
