"""Names everything that can happen in a simulated schedule; a schedule is a list of these and nothing else."""

from enum import StrEnum
from typing import NamedTuple

__all__ = ["FAULTS", "Action", "Kind", "Schedule"]


class Kind(StrEnum):
    """What happens; the numbers of an action choose whom it happens to, modulo how many there are."""

    # The world outside.
    UPLOAD = "upload"  # file, variant, copies of its event
    REDELIVER = "redeliver"  # event
    GARBAGE = "garbage"  # queue, variant: a message that nobody can read
    PASS = "pass"  # seconds of true time
    SKEW = "skew"  # process, seconds: its clock jumps
    ALIAS = "alias"  # the model's alias moves
    SIGNAL = "signal"  # window, variant, copies: a monitor finds drift
    # Workers.
    DELIVER = "deliver"  # message, process: handle it to its end
    TAKE = "take"  # message, process: begin to handle it
    RECONCILE = "reconcile"  # process: begin a pass
    SWEEP = "sweep"  # process: begin a pass
    TIMER = "timer"  # process, schedule: begin to fire it
    RUN = "run"  # worker, stops: let it go on for so many
    FINISH = "finish"  # worker: let it go on to its end
    # Faults.
    ARM = "arm"  # what, where, skip: the next call of that place but `skip` goes wrong
    DIE = "die"  # process: it dies now, with all its workers
    THROTTLE = "throttle"  # who, calls, retry-after
    OUTAGE = "outage"  # who, calls: they fail
    # Databricks.
    JOB = "job"  # Databricks run, what it does
    # People.
    REQUEST = "request"  # process, key, variant
    RETRY = "retry"  # process, run: begin another attempt
    REPAIR = "repair"  # process, run: begin a repair of its Databricks run
    CANCEL = "cancel"  # process, run: end it before its time
    REPLAY = "replay"  # process, which, arrival or run or dead letter
    PAUSE = "pause"  # process, pipeline
    RESUME = "resume"  # process, pipeline
    BACKFILL = "backfill"  # process, pipeline, variant: hand over what is in storage, once more too, or stop that


# What an undisturbed world does not have. Duplicates are in the copies of an upload.
FAULTS = frozenset({Kind.REDELIVER, Kind.SKEW, Kind.ARM, Kind.DIE, Kind.THROTTLE, Kind.OUTAGE})


class Action(NamedTuple):
    """One thing that happens; executing it never draws a random number."""

    kind: Kind
    a: int = 0
    b: int = 0
    c: int = 0


class Schedule(NamedTuple):
    """A whole story: the pipelines' shape and what happens to them, both made from the seed."""

    seed: int
    shape: tuple[int, ...]
    actions: tuple[Action, ...]
    is_calm: bool  # Databricks and people make no run fail for good, so that the end is known beforehand
