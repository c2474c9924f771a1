"""Asks storage for what an event does not tell of its blob."""

from dataclasses import replace
from typing import Final

from functions.core.blob_events import RENAMED
from functions.core.model import ArrivalSource, BlobCreated, BlobRenamed, BlobVersion, OtherBlobEvent
from functions.services.plane import ControlPlane

__all__ = ["complete_event"]

_SFTP_COMMIT: Final = "SftpCommit"


def complete_event(
    plane: ControlPlane, event: BlobCreated | BlobRenamed | OtherBlobEvent
) -> BlobCreated | OtherBlobEvent:
    """Return the event with what it leaves open; raises StorageUnavailableError."""
    if isinstance(event, BlobRenamed):
        return _with_its_version(plane, event)
    if isinstance(event, BlobCreated) and event.api == _SFTP_COMMIT and event.blob.size_bytes == 0:
        return _with_its_size(plane, event)
    return event


def _with_its_size(plane: ControlPlane, event: BlobCreated) -> BlobCreated:
    """Return the end of an upload by SFTP with the size that its blob has.

    Source: the documented example of `SftpCommit` has a `contentLength` of 0, as the creation before it has.
    """
    if event.blob.account != plane.account:  # the decision refuses others, whose storage is not asked
        return event
    stored = plane.inputs.find(event.blob.account, event.blob.container, event.blob.path)
    if stored is not None and stored.version.etag == event.blob.etag:
        return replace(event, blob=replace(event.blob, size_bytes=stored.version.size_bytes))
    known = plane.ledger.get_arrival(event.blob)  # by an earlier delivery; there is a newer version now, or none
    return event if known is None else replace(event, blob=replace(event.blob, size_bytes=known.value.blob.size_bytes))


def _with_its_version(plane: ControlPlane, event: BlobRenamed) -> BlobCreated | OtherBlobEvent:
    """Return the renamed blob as the arrival that it is, with the size and ETag that its event does not tell.

    The event's sequencer is not the version's: the name may have got a newer version since. It orders the versions
    before the rename only.
    """
    is_ours = event.account == plane.account  # the decision refuses others, whose storage is not asked
    stored = plane.inputs.find(event.account, event.container, event.path) if is_ours else None
    unknown = BlobVersion(
        account=event.account,
        container=event.container,
        path=event.path,
        etag=f"event:{event.event_id}",
        size_bytes=0,
    )
    if is_ours and stored is None:
        return OtherBlobEvent(
            event_id=event.event_id,
            event_time=event.event_time,
            event_type=RENAMED,
            api=event.api,
            blob=unknown,
            traceparent=event.traceparent,
        )
    return BlobCreated(
        event_id=event.event_id,
        event_time=event.event_time,
        api=event.api,
        blob=unknown if stored is None else stored.version,
        content_type="" if stored is None else stored.content_type,
        traceparent=event.traceparent,
        source=ArrivalSource.RENAME,
    )
