"""Says where each thing of the ledger is, so that every request of the hot path names one partition.

    arrivals      partition account.container.folder, key path hash + ETag hash    one row a version of a path
    pending       partition pipeline, key [consignment +] event time + arrival id  index of held arrivals
    paths         partition as arrivals, key path hash                             which paths have arrived before
    redeliveries  partition as arrivals, key of the arrival + a name of its own    one row a redelivery
    timeline      partition pipeline.yyyymm, key newest first + arrival id         index of arrivals by time, for people
    runs          partition pipeline.yyyymm, key the rest of the run id            one row a run, with its outbox
    open          partition "open", key run id                                     index of unfinished stories
    marks         partition by kind                                                requests, slots, quarantined, alerts,
                                                                                   consignments, bookmarks,
                                                                                   the turnstile's one row

The folder is that of the first two levels of a path. A storm comes into one folder nearly always, so its writes meet
in one partition and share transactions; pipelines that read different folders never meet.

This is layout 2. In layout 1 an arrival's partition was one of 16 by the hash of its path, and the tables paths,
redeliveries and timeline were not there.
"""

from datetime import datetime
from hashlib import sha256
from typing import Final

from functions.core.ledger import Arrival
from functions.core.model import BlobVersion, PipelineKey
from functions.core.reading import to_iso

__all__ = [
    "CONSIGNMENTS",
    "LAYOUT",
    "first_path_place",
    "first_place_of",
    "newest_first",
    "path_place",
    "pending_bounds",
    "pending_place",
    "place_of",
    "timeline_partition",
    "timeline_place",
]

LAYOUT: Final = 2
CONSIGNMENTS: Final = "c"  # begins the keys of held arrivals that belong to a consignment

_LEVELS: Final = 2
_LAST_MICROSECOND: Final = 10**17 - 1
_NOBODY: Final = "-"  # stands for the pipeline of arrivals that none wants; no key of a pipeline looks like it


def path_place(account: str, container: str, path: str) -> tuple[str, str]:
    """Return the partition of a path and the first part of its rows' keys."""
    folder = "/".join(path.split("/")[:-1][:_LEVELS])
    return f"{account}.{container}.{_hash(folder)[:8]}", _hash(path)[:40]


def place_of(blob: BlobVersion) -> tuple[str, str]:
    """Return partition and key of an arrival."""
    partition, path_hash = path_place(blob.account, blob.container, blob.path)
    return partition, f"{path_hash}.{_hash(blob.etag)[:24]}"


def first_path_place(account: str, container: str, path: str) -> tuple[str, str]:
    """Return partition and first part of the keys of a path as they were in layout 1."""
    digest = _hash(path)
    return f"{account}.{container}.{digest[0]}", digest[1:41]


def first_place_of(blob: BlobVersion) -> tuple[str, str]:
    """Return partition and key of an arrival as they were in layout 1."""
    partition, path_hash = first_path_place(blob.account, blob.container, blob.path)
    return partition, f"{path_hash}.{_hash(blob.etag)[:24]}"


def pending_place(arrival: Arrival) -> tuple[str, str]:
    """Return partition and key of a held arrival's row in its pipeline's index."""
    if arrival.pipeline is None:
        raise ValueError(f"arrival {arrival.id!r} has no pipeline to be held for")
    # Times begin with a digit, so arrivals without a consignment come first, and each consignment's are together.
    group = f"{_consignment_key(arrival.consignment)}." if arrival.consignment else ""
    return arrival.pipeline, f"{group}{to_iso(arrival.event_time)}.{arrival.id[:32]}"


def pending_bounds(consignment: str | None) -> tuple[str, str | None]:
    """Return where arrivals are in their pipeline's index: all, those without a consignment, or one's."""
    if consignment is None:
        return "", None
    if not consignment:
        return "", CONSIGNMENTS
    key = _consignment_key(consignment)
    return f"{key}.", f"{key}/"  # "/" follows "."


def _consignment_key(consignment: str) -> str:
    return f"{CONSIGNMENTS}{_hash(consignment)[:24]}"


def timeline_partition(pipeline: PipelineKey | None, month: datetime) -> str:
    """Return the partition of a pipeline's arrivals that were recorded in a month."""
    return f"{pipeline or _NOBODY}.{month:%Y%m}"


def timeline_place(arrival: Arrival) -> tuple[str, str]:
    """Return partition and key of an arrival's row in the index by time."""
    partition = timeline_partition(arrival.pipeline, arrival.recorded_at)
    return partition, f"{newest_first(arrival.recorded_at)}.{arrival.id[:32]}"


def newest_first(instant: datetime) -> str:
    """Return a key whose order is the reverse of time, to the microsecond."""
    whole = int(instant.replace(microsecond=0).timestamp())
    return f"{_LAST_MICROSECOND - (whole * 1_000_000 + instant.microsecond):017d}"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
