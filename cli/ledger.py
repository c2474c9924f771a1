"""Opens the running local cloud's ledger, the same tables that the control plane writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cli.configuration import read_pipelines
from functions.adapters.blobs import BlobManifests
from functions.adapters.storage import StorageAccount
from functions.adapters.table_ledger import TableLedger
from functions.adapters.tables import AzureTables
from functions.core.ledger import Run
from functions.core.model import PipelineKey, RunId
from local.supervisor.settings import SYSTEM_CONTAINER, CloudSettings

__all__ = ["Ledger", "open_ledger"]

_TABLE_PREFIX = "tidegate"  # the default of TIDEGATE_TABLE_PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The ledger and the manifests that its runs point to."""

    rows: TableLedger
    manifests: BlobManifests
    pipelines: tuple[PipelineKey, ...]

    def runs(self, *, pipeline: PipelineKey | None = None, limit: int = 100, days: int = 365) -> Sequence[Run]:
        """Return runs of the last days, the newest first: of one pipeline, or of all that are configured."""
        now = datetime.now(UTC)
        wanted = self.pipelines if pipeline is None else (pipeline,)
        return self.rows.runs(wanted, since=now - timedelta(days=days), until=now + timedelta(days=1), limit=limit)

    def run(self, run_id: RunId) -> Run | None:
        """Return a run as it stands now."""
        entry = self.rows.get_run(run_id)
        return entry.value if entry is not None else None


def open_ledger(settings: CloudSettings) -> Ledger:
    """Return the ledger of a cloud."""
    storage = StorageAccount(connection_string=settings.storage_connection_string)
    return Ledger(
        rows=TableLedger(AzureTables(storage, prefix=_TABLE_PREFIX)),
        manifests=BlobManifests(storage, container=SYSTEM_CONTAINER),
        pipelines=tuple(pipeline.key for pipeline in read_pipelines().pipelines),
    )
