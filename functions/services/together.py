"""Lets threads of one process that want to change the same thing have one of them do it for all.

Compare-and-set lets one writer through at a time. Sixteen threads that each try by themselves undo each other's tries;
here whoever comes first goes at once, and those who come meanwhile wait, to be done together by one of them.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from functions.core.errors import LedgerUnavailableError

__all__ = ["Together"]


class _Waiting[Item, Result]:
    """What one thread wants, and what came of it."""

    __slots__ = ("error", "is_done", "item", "result", "told")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.told = threading.Event()  # either that it is done, or that it is this thread's turn to do it for all
        self.is_done = False
        self.result: Result | None = None
        self.error: BaseException | None = None


class Together[Item, Result]:
    """Gathers what threads want while another one is at it.

    It is not re-entrant: what does the work for all must not ask for more of it, or it would wait for itself.
    """

    def __init__(self) -> None:
        self._at_it: int | None = None  # the thread that does it for all
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._is_busy = False
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait for the one that is at it."""
        with self._lock:
            return len(self._waiting)

    def do(self, item: Item, act: Callable[[Sequence[Item]], Sequence[Result | BaseException]]) -> Result:
        """Have `act` called with this item and whatever else waits by then, by this thread or another one.

        Args:
            item: What this thread wants.
            act: Does all of it, and returns for each item its result, or the error that this item alone causes.

        Raises:
            BaseException: What `act` returned for the item, or raised for all.
            RuntimeError: `act` itself, which is called by this very thread, asks for more: a bug of ours.
        """
        if self._at_it == threading.get_ident():  # only this thread itself can have written that
            raise RuntimeError("not re-entrant: what is done together asks for more of it, and would wait for itself")
        mine = _Waiting[Item, Result](item)
        with self._lock:
            self._waiting.append(mine)
            is_first, self._is_busy = not self._is_busy, True
        if not is_first:
            mine.told.wait()
        if not mine.is_done:
            self._do_for_all(act)
        if mine.error is not None:
            raise mine.error
        return mine.result  # type: ignore[return-value] # done without an error: it has its result

    def _do_for_all(self, act: Callable[[Sequence[Item]], Sequence[Result | BaseException]]) -> None:
        with self._lock:
            group = list(self._waiting)
            self._waiting.clear()
        self._at_it = threading.get_ident()
        try:
            for waiting, result in zip(group, act([waiting.item for waiting in group]), strict=True):
                if isinstance(result, BaseException):
                    waiting.error = result
                else:
                    waiting.result = result
        except Exception as error:  # noqa: BLE001 - each of the group raises it
            for waiting in group:
                waiting.error = error
        except BaseException:  # this thread is being ended: the others must not end with it, nor wait for it
            for waiting in group:
                waiting.error = LedgerUnavailableError("changing it together with others", "the writer was ended")
            raise
        finally:
            self._at_it = None  # before the next one is told
            for waiting in group:
                waiting.is_done = True
            with self._lock:
                if self._waiting:
                    self._waiting[0].told.set()
                else:
                    self._is_busy = False
            for waiting in group:
                waiting.told.set()
