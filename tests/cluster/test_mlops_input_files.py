"""Tests which files are refused by what their footers and names say, before Spark reads a row of them."""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from flights import make_flights
from pyarrow import parquet
from worlds import FolderStore, World

from tidegate_ml import FLIGHT_DELAY
from tidegate_mlops.errors import InputRefusedError, SupersededError
from tidegate_mlops.input_files import AcceptedFile, accept_files
from tidegate_mlops.manifest import InputFile
from tidegate_mlops.urls import BlobUrl


def whole_file(extra: pa.Array | None = None, name: str = "") -> bytes:
    table = pa.Table.from_pandas(make_flights(3), preserve_index=False)
    if extra is not None:
        table = table.append_column(name, extra)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def damaged_footer() -> bytes:
    data = bytearray(whole_file())
    length = int.from_bytes(data[-8:-4], "little")
    data[-8 - length : -8] = b"\xff" * length
    return bytes(data)


def encrypted_footer() -> bytes:
    return whole_file()[:-4] + b"PARE"


def accept(world: World, *urls: str) -> tuple[AcceptedFile, ...]:
    files = []
    for url in urls:
        facts = world.store.facts(BlobUrl.parse(url))
        assert facts is not None
        files.append(InputFile(url=facts.url, etag=facts.etag, size_bytes=facts.size_bytes))
    return accept_files(world.store, files, FLIGHT_DELAY, training=False)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (damaged_footer(), "'bad.parquet' is no Parquet file (Couldn't deserialize thrift"),
        (encrypted_footer(), "'bad.parquet' is no Parquet file (Could not read encrypted metadata"),
        (whole_file(pa.array([1, 2, 3]), "month"), "'bad.parquet': 2 columns are called 'month', upper and lower case"),
        (whole_file(pa.array([1, 2, 3]), "Month"), "'bad.parquet': 2 columns are called 'month', upper and lower case"),
    ],
    ids=["damaged", "encrypted", "same name", "same name but for case"],
)
def test_a_broken_file_is_named_with_its_reason(world: World, content: bytes, reason: str) -> None:
    """Whoever sent several files learns about all of them at once."""
    bad = world.upload("bad.parquet", content)
    other = world.upload("other.parquet", b"year,month\n2013,6\n" * 20)

    with pytest.raises(InputRefusedError) as refused:
        accept(world, bad, world.upload("good.parquet", make_flights(3)), other)

    first, second = refused.value.reasons
    assert first.startswith(reason)
    assert second.startswith("'other.parquet' is no Parquet file")


@pytest.mark.parametrize("name", ["_june.parquet", ".june.parquet"])
def test_a_file_that_spark_does_not_see_is_refused(world: World, name: str) -> None:
    """Its rows would be missing from a training without a word."""
    with pytest.raises(InputRefusedError) as refused:
        accept(world, world.upload(name, make_flights(3)), world.upload("july_.parquet", make_flights(3)))

    assert refused.value.reasons == (
        f"'{name}' starts with '{name[0]}', and Spark does not read such files; rename it",
    )


class SilentStore(FolderStore):
    """A store that answers for the tail of a blob only; the next request fails as `failure` says."""

    def __init__(self, root: Path, failure: Exception) -> None:
        super().__init__(root)
        self._failure, self._answers = failure, 1

    def read_range(self, url: BlobUrl, *, offset: int, length: int, etag: str) -> bytes:
        self._answers -= 1
        if self._answers < 0:
            raise self._failure
        return super().read_range(url, offset=offset, length=length, etag=etag)


@pytest.mark.parametrize("failure", [SupersededError("u", "0x1", "0x2"), ConnectionResetError("reset by peer")])
def test_storage_that_fails_is_not_taken_for_a_broken_file(world: World, failure: Exception) -> None:
    """The file may be whole: the run fails for what happened, and another attempt may read it."""
    wide = pd.concat([make_flights(3), pd.DataFrame({f"more_{i}": [1, 2, 3] for i in range(1500)})], axis=1)
    url = world.upload("wide.parquet", wide)
    world.store = SilentStore(world.store.root, failure)

    with pytest.raises(type(failure)) as raised:
        accept(world, url)

    assert raised.value is failure
