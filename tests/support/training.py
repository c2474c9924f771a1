"""Asks for a run of the training pipeline, and puts there what it reads."""

from functions.core.model import BlobVersion
from tests.support.control_plane import ACCOUNT, World

__all__ = ["TRAIN", "with_training_data"]

TRAIN = b'{"pipeline": "flight_delay_training"}'


def with_training_data(world: World) -> World:
    """Return the world with a file that the training pipeline reads."""
    blob = BlobVersion(
        account=ACCOUNT, container="input", path="flights/history/a.parquet", etag="0x5", size_bytes=9, sequencer=None
    )
    world.inputs.put(blob)
    return world
