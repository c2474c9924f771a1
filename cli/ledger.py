"""Opens the running local cloud's ledger, the same tables that the control plane writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

from cli.configuration import read_pipelines
from cli.failures import CommandError
from functions.adapters.blobs import BlobManifests
from functions.adapters.storage import StorageAccount
from functions.adapters.table_ledger import TableLedger
from functions.adapters.table_signals import TableSignals
from functions.adapters.tables import AzureTables
from functions.core.ledger import Arrival, Run
from functions.core.listing import ArrivalFilter, RunFilter
from functions.core.model import PipelineKey, RunId
from functions.services.listing import list_arrivals, list_arrivals_of_blob, list_runs, list_runs_of_blob
from local.supervisor.settings import SYSTEM_CONTAINER, CloudSettings

__all__ = ["BlobName", "Ledger", "open_ledger", "open_signals", "parse_blob_url"]

_TABLE_PREFIX = "tidegate"  # the default of TIDEGATE_TABLE_PREFIX
_PUBLIC_HOST = re.compile(r"([a-z0-9]{3,24})\.(?:blob|dfs)\.core\.windows\.net")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobName:
    """A blob, or a folder of blobs, by name."""

    account: str
    container: str
    path: str


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

    def find_runs(
        self,
        wanted: RunFilter,
        *,
        pipeline: PipelineKey | None,
        since: datetime | None,
        blob: str | None,
        limit: int,
    ) -> Sequence[Run]:
        """Return the runs that are wanted, the newest first; of a blob, those that it was assigned to."""
        now = datetime.now(UTC)
        if blob is not None:
            return list_runs_of_blob(self.rows, _place(blob), wanted, pipeline=pipeline, since=since, limit=limit)
        return list_runs(self.rows, read_pipelines(), wanted, pipeline=pipeline, since=since, limit=limit, now=now)

    def find_arrivals(self, wanted: ArrivalFilter, *, blob: str | None, limit: int) -> Sequence[Arrival]:
        """Return the arrivals that are wanted, the latest recorded first; of a blob, its versions."""
        if blob is not None:
            return list_arrivals_of_blob(self.rows, _place(blob), wanted, limit=limit)
        return list_arrivals(self.rows, read_pipelines(), wanted, limit=limit, now=datetime.now(UTC))

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


def _place(url: str) -> tuple[str, str, str]:
    name = parse_blob_url(url)
    return name.account, name.container, name.path


def open_signals(settings: CloudSettings) -> TableSignals:
    """Return what became of a cloud's signals."""
    storage = StorageAccount(connection_string=settings.storage_connection_string)
    return TableSignals(AzureTables(storage, prefix=_TABLE_PREFIX))


def parse_blob_url(url: str) -> BlobName:
    """Return the blob that a URL names: Azure's form (https, abfss) or the local endpoint's, account in the path.

    Raises:
        CommandError: It names no blob.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:  # an unclosed bracket, for one
        raise CommandError(f"{url!r} is no URL: {error}") from error
    if "?" in url or "#" in url:
        raise CommandError(f"{url!r} has a '?' or '#'; if it is part of the blob's name, write %3F or %23")
    if parts.scheme == "abfss" and "@" in parts.netloc:
        container, _, host = parts.netloc.partition("@")
        names = [host.partition(".")[0], container, parts.path.lstrip("/")]
    elif (match := _PUBLIC_HOST.fullmatch(parts.hostname or "")) is not None:
        names = [match[1], *parts.path.lstrip("/").split("/", 1)]
    elif parts.hostname in {"127.0.0.1", "localhost"}:
        names = parts.path.lstrip("/").split("/", 2)
    else:
        names = []
    if len(names) != 3 or not all(names):  # noqa: PLR2004 - account, container, path
        raise CommandError(
            f"expected the URL of a blob, as https://<account>.blob.core.windows.net/<container>/<path>, got {url!r}"
        )
    account, container, path = names
    return BlobName(account=account, container=container, path=unquote(path).rstrip("/"))
