"""Runs several workers in turns, one effect at a time, in an order that a seed decides."""

import random
import threading
from collections.abc import Callable, Sequence

from tests.support.in_memory import Faults

__all__ = ["Interleaving"]


class Interleaving(Faults):
    """Stops every worker before each effect and lets one of them go on; the same seed gives the same order.

    A seed may also kill a worker for good at one of its stops: `deaths` of them at most.
    """

    def __init__(self, seed: int, *, deaths: int = 0) -> None:
        self._random = random.Random(seed)
        self._deaths = deaths
        self._turn = threading.Condition()
        self._running: str | None = None
        self._waiting: set[str] = set()
        self._workers: set[str] = set()
        self.errors: list[BaseException] = []
        self.on_turn: Callable[[random.Random], object] = lambda _: None  # what else happens, such as time passing

    def before(self, call: str) -> None:
        """Wait for the turn; outside `run`, pass at once."""
        name = threading.current_thread().name
        if name not in self._workers:
            return
        with self._turn:
            self._waiting.add(name)
            self._running = None
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._running == name, timeout=30)
            self._waiting.discard(name)
            if self._deaths and self._random.random() < 0.02:
                self._deaths -= 1
                raise _WorkerDiedError(call)

    def run(self, works: Sequence[Callable[[], object]]) -> None:
        """Do all works at once, interleaved; return when each has ended or died."""
        threads = [
            threading.Thread(target=self._do, args=(work,), name=f"worker-{index}") for index, work in enumerate(works)
        ]
        self._workers = {thread.name for thread in threads}
        for thread in threads:
            thread.start()
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._waiting == self._workers or not self._workers, timeout=30)
                if not self._workers:
                    break
                self.on_turn(self._random)
                self._running = self._random.choice(sorted(self._waiting))
                self._turn.notify_all()
                chosen = self._running
                self._turn.wait_for(lambda: self._running != chosen, timeout=30)  # noqa: B023 - used within the turn
        for thread in threads:
            thread.join(30)

    def _do(self, work: Callable[[], object]) -> None:
        try:
            self.before("start")
            work()
        except _WorkerDiedError:
            pass
        except BaseException as error:  # noqa: BLE001 - the test looks at them
            self.errors.append(error)
        finally:
            with self._turn:
                self._workers.discard(threading.current_thread().name)
                self._running = None
                self._turn.notify_all()


class _WorkerDiedError(BaseException):
    """The worker's process is gone."""
