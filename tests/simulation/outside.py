"""Plays storage and Event Grid: files that are uploaded, and their events, which repeat, reorder and vanish."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from functions.core.model import BlobVersion, ModelSignal, PipelineKey, SignalType
from functions.core.reading import to_iso
from functions.core.signals import signal_to_document
from functions.core.tokens import arrival_id_of
from tests.simulation.host import Host, Message
from tests.simulation.shapes import ALPHA, BETA, OUTPUTS
from tests.support.control_plane import ACCOUNT, MODEL
from tests.support.in_memory import FixedClock, InMemoryInputs

__all__ = ["Outside", "Sent", "name_of"]

# The same name in both pipelines' folders, and names that look like something else.
_FILES: Final = ("a.parquet", "b.parquet", "c 50%41 #ü.parquet", "2026/in/alpha/d", "e.parquet")
_RESOURCE: Final = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/"
_FIRST_WINDOW: Final = datetime(2026, 2, 28, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Sent:
    """One event of Event Grid, and what is expected of it."""

    event_id: str
    blob: BlobVersion
    body: bytes
    pipeline: PipelineKey | None  # whose run shall read it; None: it is ignored
    is_unreadable: bool = False  # whoever reads it fails, and can name it
    deliveries: int = 0


class Outside:
    """Uploads files and delivers what happened to them."""

    def __init__(self, clock: FixedClock, host: Host, inputs: InMemoryInputs) -> None:
        self._clock = clock
        self._host = host
        self._inputs = inputs
        self.sent: list[Sent] = []
        self.garbage: list[Message] = []
        self.signals: list[ModelSignal] = []
        self.unreadable: set[str] = set()  # arrivals of files that no notebook can read
        self.readable: set[bytes] = set()  # messages that nobody may give up for good
        self._versions = 0
        self._outputs = 0

    def upload(self, file: int, variant: int, copies: int) -> Sent:
        """Upload a version of a file and deliver its event so many times; none: it has vanished for now."""
        self._versions += 1
        pipeline = (ALPHA, ALPHA, BETA)[file % 3]
        name = _FILES[file // 3 % len(_FILES)]
        folder, size, api, sequencer, container = f"{pipeline}/", 1000, "PutBlob", f"{self._versions:032x}", "input"
        wanted: PipelineKey | None = pipeline
        is_unreadable = False
        match variant % 16:
            case 10:
                size, wanted = 0, None
            case 11:
                api, wanted = "CreateFile", None
            case 12:
                folder, wanted = "elsewhere/", None
            case 13:
                folder, wanted = "history/", None
            case 14:
                container, wanted = "unknown", None
            case 15:
                is_unreadable = True
            case _:
                api = ("PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose")[variant % 4]
        blob = BlobVersion(
            account=ACCOUNT,
            container=container,
            path=f"{folder}{name}",
            etag=f"0x{self._versions:X}",
            size_bytes=size,
            sequencer=sequencer,
        )
        if api != "CreateFile":
            self._inputs.put(blob, at=self._clock.now())
        sent = self._send(blob, api, wanted, copies, is_cloud_event=variant % 16 == 9)
        if is_unreadable:
            sent.is_unreadable = True
            self.unreadable.add(arrival_id_of(blob))
        return sent

    def announce_output(self, url: str, size_bytes: int = 100) -> None:
        """Deliver the event of a blob that the system itself wrote; storage tells of these too."""
        self._outputs += 1
        container, path = url.split(".blob.core.windows.net/", 1)[1].split("/", 1)
        blob = BlobVersion(
            account=ACCOUNT,
            container=container,
            path=path,
            etag=f"0xF{self._outputs:X}",
            size_bytes=size_bytes,
            sequencer=f"{self._outputs:032x}",
        )
        if container == OUTPUTS:
            self._inputs.put(blob, at=self._clock.now())
        self._send(blob, "PutBlob", None, 1, is_cloud_event=False)

    def deliver(self, event: Sent) -> None:
        """Deliver an event once more."""
        event.deliveries += 1
        self._host.send("arrivals", event.body)

    def send_garbage(self, queue: str, variant: int) -> None:
        """Put something into a queue that nobody can read."""
        body = (b"", b"{}", b"[1, 2]", b'{"kind": "dance"}', b"\xff\xfe", b'{"specversion": "1.0", "id": ""}')
        self.garbage.append(self._host.send(queue, body[variant % len(body)]))

    def send_signal(self, window: int, variant: int, copies: int) -> ModelSignal:
        """Let a monitor find drift in a window of a few, and deliver its event so many times."""
        start = _FIRST_WINDOW + timedelta(hours=window % 3)
        signal = ModelSignal(
            event_id=f"signal-{len(self.signals) + 1}",
            source="/monitors/drift",
            type=SignalType.DRIFT_DETECTED if variant % 4 else SignalType.DECAY_DETECTED,
            time=self._clock.now(),
            environment="local",
            model_name=MODEL,
            model_version=None,
            window_start=start,
            window_end=start + timedelta(hours=1),
            metrics={"psi": 0.1 if variant % 5 == 0 else 0.3},
        )
        self.signals.append(signal)
        body = json.dumps(signal_to_document(signal)).encode()
        self.readable.add(body)
        for _ in range(copies):
            self._host.send("completions", body)
        return signal

    def newest(self, blob: BlobVersion) -> bool:
        """Return whether no later version of the path was uploaded."""
        place = (blob.container, blob.path)
        return all(
            (sent.blob.container, sent.blob.path) != place or (sent.blob.sequencer or "") <= (blob.sequencer or "")
            for sent in self.sent
        )

    def _send(
        self, blob: BlobVersion, api: str, pipeline: PipelineKey | None, copies: int, *, is_cloud_event: bool
    ) -> Sent:
        event_id = f"event-{len(self.sent) + 1}"
        make = _cloud_event if is_cloud_event else _grid_event
        body = json.dumps(make(event_id, blob, api, to_iso(self._clock.now()))).encode()
        event = Sent(event_id=event_id, blob=blob, body=body, pipeline=pipeline)
        self.sent.append(event)
        self.readable.add(body)
        for _ in range(copies):
            self.deliver(event)
        return event


def name_of(event: Sent) -> str:
    """Return how a person would call the arrival of an event."""
    return f"{event.blob.container}/{event.blob.path} version {event.blob.etag} ({arrival_id_of(event.blob)[:12]})"


def _data(blob: BlobVersion, api: str) -> dict[str, object]:
    return {
        "api": api,
        "eTag": blob.etag,
        "contentType": "application/octet-stream",
        "contentLength": blob.size_bytes,
        "blobType": "BlockBlob",
        "url": blob.url,
        "sequencer": blob.sequencer,
    }


def _grid_event(event_id: str, blob: BlobVersion, api: str, at: str) -> dict[str, object]:
    return {
        "topic": _RESOURCE + blob.account,
        "subject": f"/blobServices/default/containers/{blob.container}/blobs/{blob.path}",
        "eventType": "Microsoft.Storage.BlobCreated",
        "id": event_id,
        "data": _data(blob, api),
        "dataVersion": "",
        "metadataVersion": "1",
        "eventTime": at,
    }


def _cloud_event(event_id: str, blob: BlobVersion, api: str, at: str) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "source": _RESOURCE + blob.account,
        "subject": f"/blobServices/default/containers/{blob.container}/blobs/{blob.path}",
        "type": "Microsoft.Storage.BlobCreated",
        "id": event_id,
        "data": _data(blob, api),
        "time": at,
    }
