"""Holds every implementation of `Tables` to one suite, grouped and ungrouped."""

from collections.abc import Iterator

import pytest

from functions.adapters.grouped_tables import GroupedTables
from functions.adapters.tables import AzureTables, StoredRow, Table, Tables, Write
from functions.core.rows import Row
from tests.support.in_memory import InMemoryTables
from tests.support.storage_ports import fresh_name, storage_of


@pytest.fixture(
    params=[
        "memory",
        "memory, grouped",
        pytest.param("azurite", marks=pytest.mark.integration),
        pytest.param("azurite, grouped", marks=pytest.mark.integration),
    ]
)
def tables(request: pytest.FixtureRequest) -> Iterator[Tables]:
    place, _, is_grouped = request.param.partition(", ")
    if place == "memory":
        yield GroupedTables(InMemoryTables()) if is_grouped else InMemoryTables()
        return
    with storage_of(request.getfixturevalue("azurite")) as storage:
        azure = AzureTables(storage, prefix=fresh_name("t"))
        yield GroupedTables(azure) if is_grouped else azure


@pytest.fixture
def table(tables: Tables) -> Table:
    return tables.table("rows")


def test_the_first_insert_wins(table: Table) -> None:
    """A key is taken once; the second writer learns that it was second."""
    first = table.insert("p", "k", {"who": "first"})
    second = table.insert("p", "k", {"who": "second"})

    row = table.get("p", "k")

    assert second is None
    assert row is not None
    assert (row.values, row.version) == ({"who": "first"}, first)


def test_a_replace_needs_the_current_version(table: Table) -> None:
    """A lost update is impossible: only the version that was read can be replaced."""
    version = table.insert("p", "k", {"n": 1})
    assert version is not None

    newer = table.replace("p", "k", {"n": 2}, version)
    stale = table.replace("p", "k", {"n": 3}, version)

    row = table.get("p", "k")
    assert stale is None
    assert row is not None
    assert (row.values, row.version) == ({"n": 2}, newer)


def test_replacing_what_is_not_there_is_a_conflict(table: Table) -> None:
    version = table.insert("p", "k", {"n": 1})
    assert version is not None
    table.delete("p", "k")

    assert table.replace("p", "k", {"n": 2}, version) is None


def test_replacing_drops_columns_that_are_gone(table: Table) -> None:
    """A replaced row is the new row, not a merge of both."""
    version = table.insert("p", "k", {"old": "x", "kept": "y"})
    assert version is not None

    table.replace("p", "k", {"kept": "y"}, version)

    row = table.get("p", "k")
    assert row is not None
    assert row.values == {"kept": "y"}


def test_a_delete_with_a_version_spares_a_later_row(table: Table) -> None:
    """A slow worker cannot delete what someone wrote after it looked."""
    old = table.put("p", "k", {"n": 1})
    table.put("p", "k", {"n": 2})

    table.delete("p", "k", old)

    row = table.get("p", "k")
    assert row is not None
    assert row.values == {"n": 2}


def test_deleting_what_is_not_there_is_harmless(table: Table) -> None:
    table.put("p", "other", {"n": 1})

    table.delete("p", "k")

    assert table.get("p", "k") is None


def test_reading_a_table_that_was_never_written_finds_nothing(table: Table) -> None:
    assert table.get("p", "k") is None
    assert list(table.query("p", limit=10)) == []


def test_a_query_stays_within_its_partition_and_bounds_and_sorts(table: Table) -> None:
    for partition, key in [("p", "c"), ("p", "a"), ("p", "d"), ("p", "b"), ("q", "b")]:
        table.put(partition, key, {"n": 1})

    found = [(row.partition, row.key) for row in table.query("p", low="b", high="d", limit=10)]
    limited = [row.key for row in table.query("p", limit=2)]

    assert found == [("p", "b"), ("p", "c")]
    assert limited == ["a", "b"]


def test_a_query_goes_on_beyond_one_page(table: Table) -> None:
    for index in range(1, 1103):
        table.put("p", f"{index:05d}", {"n": index})

    keys = [row.key for row in table.query("p", limit=5000)]

    assert (len(keys), keys[0], keys[-1]) == (1102, "00001", "01102")


def test_an_insert_returns_the_row_that_was_first(table: Table) -> None:
    first = table.insert_or_get("p", "k", {"who": "first"})
    second = table.insert_or_get("p", "k", {"who": "second"})

    assert isinstance(first, str)
    assert second == StoredRow("p", "k", {"who": "first"}, first)


def test_many_are_written_except_those_that_are_refused(table: Table) -> None:
    """In one request, a row that changed keeps its change, a key that is taken its row; the others are written."""
    versions = {key: table.put("p", key, {"n": 0}) for key in ("a", "b", "c", "d", "e")}
    table.put("p", "b", {"n": 9})

    written = table.write_many(
        "p",
        [
            Write.replace("a", {"n": 1}, versions["a"]),
            Write.replace("b", {"n": 1}, versions["b"]),
            Write.insert("c", {"n": 1}),
            Write.insert("new", {"n": 1}),
            Write.put("d", {"n": 1}),
            Write.delete("e", versions["e"]),
        ],
    )

    values = {row.key: row.values["n"] for row in table.query("p", limit=10)}
    assert [version is None for version in written[:5]] == [False, True, True, False, False]
    assert values == {"a": 1, "b": 9, "c": 0, "d": 1, "new": 1}


def test_a_version_that_many_returned_is_the_current_one(table: Table) -> None:
    (first, _) = table.write_many("p", [Write.insert("a", {"n": 1}), Write.insert("b", {"n": 1})])
    assert first is not None

    assert table.replace("p", "a", {"n": 2}, first) is not None


def test_many_refusals_among_many_leave_the_others_written(table: Table) -> None:
    for index in range(0, 40, 2):
        table.put("p", f"{index:03d}", {"n": 0})

    written = table.write_many("p", [Write.insert(f"{index:03d}", {"n": 1}) for index in range(40)])

    values = [row.values["n"] for row in table.query("p", limit=100)]
    assert [version is None for version in written] == [True, False] * 20
    assert values == [0, 1] * 20


def test_more_rows_than_one_transaction_takes_are_replaced_and_deleted(table: Table) -> None:
    versions = {f"{index:03d}": table.put("p", f"{index:03d}", {"n": 0}) for index in range(130)}

    written = table.write_many("p", [Write.replace(key, {"n": 1}, version) for key, version in versions.items()])
    table.write_many("p", [Write.delete(key, version) for key, version in zip(versions, written, strict=True)][:120])

    assert [row.key for row in table.query("p", limit=1000)] == [f"{index:03d}" for index in range(120, 130)]


def test_long_rows_are_spread_over_requests(table: Table) -> None:
    """A transaction may have 4 MiB, which a few dozen rows of a run with its outbox exceed."""
    long: dict[str, str | int | bool] = {f"column{index}": "ü" * 16_000 for index in range(12)}

    written = table.write_many("p", [Write.insert(f"{index:03d}", long) for index in range(20)])

    assert len([version for version in written if version]) == 20
    assert len(list(table.query("p", limit=100))) == 20


def test_deleting_many_spares_those_that_moved_on(table: Table) -> None:
    versions = {key: table.put("p", key, {"n": 0}) for key in ("a", "b", "c")}
    table.put("p", "b", {"n": 9})

    table.write_many("p", [Write.delete(key, version) for key, version in versions.items()])

    assert [row.key for row in table.query("p", limit=10)] == ["b"]


def test_the_first_rows_of_a_table_may_come_together(table: Table) -> None:
    written = table.write_many("p", [Write.insert("a", {"n": 1}), Write.insert("b", {"n": 1})])

    assert None not in written
    assert [row.key for row in table.query("p", limit=10)] == ["a", "b"]


def test_many_are_read_by_their_places(table: Table) -> None:
    for partition, key in [("p", "a"), ("q", "a"), ("p", "b")]:
        table.put(partition, key, {"of": partition + key})

    found = table.get_many([("q", "a"), ("p", "none"), ("p", "b")])

    assert [None if row is None else row.values["of"] for row in found] == ["qa", None, "pb"]
    assert table.get_many([]) == []


def test_pages_show_every_row_of_every_partition_once(table: Table) -> None:
    places = {(f"p{index % 3}", f"{index:02d}") for index in range(25)}
    for partition, key in places:
        table.put(partition, key, {"n": 1})

    seen: list[tuple[str, str]] = []
    continuation: str | None = None
    for _ in range(10):
        rows, continuation = table.page(continuation, limit=7)
        seen += [(row.partition, row.key) for row in rows]
        if continuation is None:
            break

    assert seen == sorted(places)


def test_a_table_that_was_never_written_has_no_page(table: Table) -> None:
    assert table.page(None, limit=7) == ([], None)


def test_values_come_back_as_they_were(table: Table) -> None:
    """Text of any language, quotes, empty text, whole numbers and booleans survive."""
    values: dict[str, str | int | bool] = {"text": "Zürich 'x' \"y\" 🛫 #%/\\?", "empty": "", "n": -5, "flag": True}

    table.put("p", "a key with spaces, 'quotes' and ü", values)

    row = table.get("p", "a key with spaces, 'quotes' and ü")
    assert row is not None
    assert row.values == values


def test_whoever_watches_the_tables_in_memory_sees_each_write_with_what_it_replaces() -> None:
    """The simulation's checks rely on it: a write that lost its race is none."""
    tables = InMemoryTables()
    seen: list[tuple[str, str, Row | None, Row]] = []
    tables.on_write = lambda *write: seen.append(write)
    table = tables.table("rows")

    version = table.insert("p", "k", {"n": 1})
    table.insert("p", "k", {"n": 2})
    table.replace("p", "k", {"n": 3}, str(version))
    table.replace("p", "k", {"n": 4}, str(version))

    assert seen == [("rows", "k", None, {"n": 1}), ("rows", "k", {"n": 1}, {"n": 3})]
