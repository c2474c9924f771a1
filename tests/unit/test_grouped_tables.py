"""Writes that meet share a transaction; each writer gets the answer for its own row, and nobody waits for company."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from functions.adapters.grouped_tables import GroupedTable, GroupedTables
from functions.core.errors import LedgerUnavailableError
from tests.support.in_memory import Faults, InMemoryTables

_DEADLINE_S = 30.0


class Gate(Faults):
    """Stops the first write of partition "p" until it is opened; `on_next` then befalls the write after it."""

    def __init__(self) -> None:
        self.is_closed = True
        self.is_reached = threading.Event()
        self.opened = threading.Event()
        self.on_next: Callable[[], None] | None = None

    def before(self, call: str) -> None:
        if not call.startswith("tables.rows."):
            return
        if self.is_closed:
            self.is_closed = False
            self.is_reached.set()
            assert self.opened.wait(_DEADLINE_S)
        elif self.opened.is_set() and self.on_next is not None:
            happens, self.on_next = self.on_next, None
            happens()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def tables(gate: Gate) -> InMemoryTables:
    return InMemoryTables(gate)


@pytest.fixture
def table(tables: InMemoryTables) -> GroupedTable:
    return GroupedTables(tables).table("rows")


@contextmanager
def company(table: GroupedTable, gate: Gate, writes: list[Callable[[], object]]) -> Iterator[list[Future[object]]]:
    """Have these writes wait behind one that is under way; they go on when the block ends."""
    with ThreadPoolExecutor(len(writes) + 1) as pool:
        pool.submit(table.put, "p", "the first", {"n": 0})
        assert gate.is_reached.wait(_DEADLINE_S)
        futures: list[Future[object]] = []
        for write in writes:
            futures.append(pool.submit(write))
            _until(lambda: table.waiting("p") == len(futures))
        yield futures
        gate.opened.set()


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _inserts(table: GroupedTable, count: int) -> list[Callable[[], object]]:
    return [lambda index=index: table.insert("p", f"{index:03d}", {"n": index}) for index in range(count)]  # type: ignore[misc] # a default binds the index


def test_a_writer_that_is_alone_writes_at_once_and_by_itself(
    table: GroupedTable, tables: InMemoryTables, gate: Gate
) -> None:
    gate.is_closed = False

    version = table.insert("p", "k", {"n": 1})

    assert version is not None
    assert tables.calls.counts == {"tables.rows.insert": 1}


def test_writers_that_wait_share_one_request(table: GroupedTable, tables: InMemoryTables, gate: Gate) -> None:
    with company(table, gate, _inserts(table, 20)) as futures:
        pass

    assert None not in [future.result() for future in futures]
    assert tables.calls.counts == {"tables.rows.put": 1, "tables.rows.transact": 1}


def test_a_request_takes_a_hundred_rows(table: GroupedTable, tables: InMemoryTables, gate: Gate) -> None:
    with company(table, gate, _inserts(table, 130)):
        pass

    assert len(tables.rows["rows"]) == 131
    assert tables.calls.counts["tables.rows.transact"] == 2


def test_a_refused_row_is_refused_alone(table: GroupedTable, tables: InMemoryTables, gate: Gate) -> None:
    tables.restore("rows", "p", "007", {"n": -1}, "v0")

    with company(table, gate, _inserts(table, 20)) as futures:
        pass

    results = [future.result() for future in futures]
    assert [index for index, version in enumerate(results) if version is None] == [7]
    assert len(tables.rows["rows"]) == 21
    assert tables.rows["rows"]["p", "007"] == ({"n": -1}, "v0")


def test_an_error_reaches_everyone_whose_row_was_in_the_request(
    table: GroupedTable, tables: InMemoryTables, gate: Gate
) -> None:
    def fail() -> None:
        raise LedgerUnavailableError("writing to rows", "scripted")

    gate.on_next = fail
    with company(table, gate, _inserts(table, 20)) as futures:
        pass

    assert {type(future.exception()) for future in futures} == {LedgerUnavailableError}
    assert set(tables.rows["rows"]) == {("p", "the first")}
    assert table.insert("p", "later", {"n": 1}) is not None


def test_a_writer_that_is_ended_leaves_nobody_waiting(table: GroupedTable, tables: InMemoryTables, gate: Gate) -> None:
    """The thread that writes for others may be ended at any line: they are told, and the next one takes over."""

    class EndedError(BaseException):
        pass

    def end() -> None:
        raise EndedError

    gate.on_next = end
    with company(table, gate, _inserts(table, 5)) as futures:
        pass

    assert [type(future.exception()) for future in futures] == [EndedError, *[LedgerUnavailableError] * 4]
    assert table.insert("p", "later", {"n": 1}) is not None
    assert tables.rows["rows"].keys() == {("p", "the first"), ("p", "later")}


def test_another_partition_does_not_wait(table: GroupedTable, tables: InMemoryTables, gate: Gate) -> None:
    with company(table, gate, _inserts(table, 5)):
        version = table.insert("q", "k", {"n": 1})
        is_written = ("q", "k") in tables.rows["rows"] and ("p", "000") not in tables.rows["rows"]

    assert version is not None
    assert is_written


def test_two_writes_of_one_row_keep_their_order(table: GroupedTable, tables: InMemoryTables, gate: Gate) -> None:
    """A request may name a row once only, so the second write goes into the next one."""
    writes: list[Callable[[], object]] = [
        lambda: table.put("p", "k", {"n": 1}),
        lambda: table.put("p", "other", {"n": 1}),
        lambda: table.put("p", "k", {"n": 2}),
        lambda: table.put("p", "k", {"n": 3}),
    ]

    with company(table, gate, writes):
        pass

    assert tables.rows["rows"]["p", "k"][0] == {"n": 3}
    assert tables.calls.counts == {"tables.rows.put": 3, "tables.rows.transact": 1}


def test_after_a_taken_key_the_next_inserts_look_first(table: GroupedTable, tables: InMemoryTables, gate: Gate) -> None:
    """One taken key undoes a request of a hundred; in a storm of repeats, one read each is cheaper."""
    for index in range(40):
        tables.restore("rows", "p", f"{index:03d}", {"n": -1}, "v0")

    repeats: list[Callable[[], object]] = [
        lambda index=index: table.insert_or_get("p", f"{index:03d}", {"n": index})  # type: ignore[misc] # likewise
        for index in range(20)
    ]
    with company(table, gate, repeats):
        pass
    before = tables.calls.counts.copy()
    tables.calls.counts.clear()
    gate.is_closed = True
    gate.is_reached.clear()
    gate.opened.clear()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(table.put, "p", "another", {"n": 0})
        assert gate.is_reached.wait(_DEADLINE_S)
        looked = [pool.submit(table.insert_or_get, "p", f"{index:03d}", {}).result(_DEADLINE_S) for index in (20, 21)]
        gate.opened.set()

    assert before["tables.rows.transact"] > 0
    assert [row if isinstance(row, str) else row.values["n"] for row in looked] == [-1, -1]
    assert tables.calls.counts == {"tables.rows.put": 1, "tables.rows.get": 2}


@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_is_there(seed: int) -> None:
    """However requests fail, a writer that got a version finds its row, and one that got an error may repeat it."""
    rng = random.Random(seed)

    class Flaky(Faults):
        def before(self, call: str) -> None:
            if rng.random() < 0.2:
                raise LedgerUnavailableError(call, "never arrived")

        def after(self, call: str) -> None:
            if rng.random() < 0.1:
                raise LedgerUnavailableError(call, "the answer was lost")

    tables = InMemoryTables(Flaky())
    table = GroupedTables(tables).table("rows")
    wanted = [(f"p{index % 3}", f"{index:04d}") for index in range(600)]

    def write(place: tuple[str, str]) -> str | None:
        try:
            return table.insert(*place, {"n": 1})
        except LedgerUnavailableError:
            return "unknown"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(write, wanted))

    acknowledged = [place for place, answer in zip(wanted, answers, strict=True) if answer not in {None, "unknown"}]
    assert len(acknowledged) > 100
    assert [place for place in acknowledged if place not in tables.rows["rows"]] == []
    assert None not in answers


def test_while_most_keys_are_taken_inserts_look_first(table: GroupedTable, tables: InMemoryTables, gate: Gate) -> None:
    """Repeats that come to another worker than their first deliveries cost one read each; new keys end it again."""
    gate.is_closed = False
    for index in range(100):
        tables.restore("rows", f"p{index}", "k", {"n": index}, "v0")

    found = [table.insert_or_get(f"p{index}", "k", {"n": -1}) for index in range(100)]

    assert [row.values["n"] for row in found if not isinstance(row, str)] == list(range(100))
    tried = tables.calls.counts["tables.rows.insert"]
    assert tried < 50
    assert tables.calls.counts["tables.rows.get"] == 100

    for index in range(100, 200):
        assert isinstance(table.insert_or_get(f"p{index}", "k", {"n": -1}), str)

    assert tables.calls.counts["tables.rows.insert"] == tried + 100
    assert tables.calls.counts["tables.rows.get"] < 125


class Company(Faults):
    """Has a second writer wait at the partition whose insert is refused, until the first one looks what is there."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.table: GroupedTable | None = None
        self.partition = ""
        self.other: Future[str] | None = None
        self.may_write = threading.Event()
        self._pool = pool

    def before(self, call: str) -> None:
        table = self.table
        if call == "tables.rows.insert" and table is not None:
            self.may_write.clear()
            self.other = self._pool.submit(table.put, self.partition, "another", {"n": 0})
            _until(lambda: table.waiting(self.partition) == 1)
        elif call == "tables.rows.put":
            assert self.may_write.wait(_DEADLINE_S)
        elif call == "tables.rows.get":
            self.may_write.set()


def test_partitions_that_nobody_uses_are_forgotten_when_there_are_many() -> None:
    """One whose key was found taken, and that nobody came back to, stayed for as long as the process."""
    remembered: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        company = Company(pool)
        tables = InMemoryTables(company)
        table = company.table = GroupedTable(tables.table("rows"), most_remembered=10)
        for index in range(15):
            tables.restore("rows", f"p{index}", "k", {"n": index}, "v0")
            company.partition = f"p{index}"

            assert not isinstance(table.insert_or_get(f"p{index}", "k", {"n": -1}), str)

            assert company.other is not None
            assert company.other.result(_DEADLINE_S)
            remembered.append(table.remembered)

    assert remembered == [*range(1, 11), *range(1, 6)]
