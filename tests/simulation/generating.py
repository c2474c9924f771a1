"""Makes a schedule of a seed: each seed favours a few things at the cost of others, so that these meet often."""

from random import Random
from typing import Final

from tests.simulation.actions import FAULTS, Action, Kind, Schedule
from tests.simulation.notebooks import Fate
from tests.simulation.shapes import CHOICES, shape_of
from tests.simulation.simulation import PROCESSES

__all__ = ["schedule_of", "without_faults"]

_LARGE: Final = 997
_BACKFILLED: Final = 0.2  # of the schedules
_LAST: Final = -1  # of however many there are
_ALPHAS: Final = (0, 3, 6, 9, 12)  # files of one pipeline, each with a path of its own
_SMALL_BATCHES: Final = (2, 1)  # a window of 10 to 30 seconds, and two files a batch
# How likely each thing is, where the seed does not leave it out or favour it.
_WEIGHTS: Final = {
    Kind.UPLOAD: 14,
    Kind.REDELIVER: 5,
    Kind.GARBAGE: 1,
    Kind.PASS: 12,
    Kind.SKEW: 3,
    Kind.ALIAS: 1,
    Kind.SIGNAL: 2,
    Kind.DELIVER: 24,
    Kind.TAKE: 12,
    Kind.RECONCILE: 6,
    Kind.SWEEP: 2,
    Kind.TIMER: 2,
    Kind.RUN: 22,
    Kind.FINISH: 8,
    Kind.ARM: 10,
    Kind.DIE: 3,
    Kind.THROTTLE: 3,
    Kind.OUTAGE: 3,
    Kind.JOB: 20,
    Kind.REQUEST: 2,
    Kind.RETRY: 3,
    Kind.REPAIR: 2,
    Kind.CANCEL: 2,
    Kind.REPLAY: 4,
    Kind.PAUSE: 1,
    Kind.RESUME: 1,
}
_NEEDED: Final = frozenset({Kind.UPLOAD, Kind.DELIVER, Kind.JOB, Kind.PASS, Kind.RUN, Kind.FINISH})
_NOT_CALM: Final = frozenset(
    {Kind.RETRY, Kind.REPAIR, Kind.CANCEL, Kind.REPLAY, Kind.REQUEST, Kind.ALIAS, Kind.BACKFILL}
)
_SECONDS: Final = (1, 2, 5, 10, 15, 31, 61, 90, 700)
_SKEWS: Final = (-86400, -3600, -60, -7, 0, 7, 60, 3600, 7200)
_SKIPS: Final = (0, 0, 0, 1, 1, 2, 3, 5, 8, 13)
_RETRY_AFTER: Final = (0, 1, 5, 30)


def schedule_of(seed: int) -> Schedule:
    """Return the schedule of a seed, the same everywhere and always."""
    random = Random(seed)
    is_calm = random.random() < 0.4
    shape = tuple(random.randrange(_LARGE) for _ in range(CHOICES))
    if is_calm and shape_of(shape).loses_work_by_policy:
        shape = (*shape[:2], random.randrange(3), *shape[3:])
    kinds, weights = _mixture(random, is_calm=is_calm)
    files = random.randint(1, 12)
    length = random.choice((12, 20, 30, 45, 60))
    actions = [Action(Kind.UPLOAD, random.randrange(files), 0, 1)]
    actions += [_make(random, kind, files) for kind in random.choices(kinds, weights, k=length)]
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        at, scene = random.randrange(len(actions)), random.choice(_SCENES)
        actions[at:at] = scene(random, files)
        if scene in _OF_SMALL_BATCHES:
            shape = (*_SMALL_BATCHES, *shape[2:])
    if random.random() < _BACKFILLED:  # drawn last: the other stories are what they were without
        for action in _a_backfill(random):
            actions.insert(random.randrange(len(actions) + 1), action)
    actions = [action for action in actions if not is_calm or action.kind not in _NOT_CALM]
    return Schedule(seed=seed, shape=shape, actions=tuple(actions), is_calm=is_calm)


def without_faults(schedule: Schedule) -> Schedule:
    """Return the same story in a world in which nothing goes wrong and everything is delivered once."""
    calm = tuple(
        action._replace(c=1) if action.kind is Kind.UPLOAD else action
        for action in schedule.actions
        if action.kind not in FAULTS
    )
    return schedule._replace(actions=calm)


def _mixture(random: Random, *, is_calm: bool) -> tuple[list[Kind], list[float]]:
    weights: dict[Kind, float] = {}
    for kind, weight in _WEIGHTS.items():
        chance = random.random()
        if is_calm and kind in _NOT_CALM:
            continue
        if kind not in _NEEDED and chance < 0.35:
            continue
        weights[kind] = weight * (4.0 if chance > 0.9 else 1.0)
    return list(weights), list(weights.values())


def _make(random: Random, kind: Kind, files: int) -> Action:
    """Return an action of a kind, with numbers that mean something to it."""
    a, b, c = random.randrange(_LARGE), random.randrange(_LARGE), random.randrange(_LARGE)
    match kind:
        case Kind.UPLOAD:
            a, b, c = random.randrange(files), random.randrange(16), random.choice((0, 1, 1, 1, 2, 3))
        case Kind.SIGNAL:
            c = random.choice((1, 1, 2))
        case Kind.PASS:
            a = random.choice(_SECONDS)
        case Kind.SKEW:
            b = random.choice(_SKEWS)
        case Kind.RUN:
            b = random.choice((0, 0, 1, 2, 3, 5, 8))
        case Kind.ARM:
            c = random.choice(_SKIPS)
        case Kind.THROTTLE | Kind.OUTAGE:
            b, c = random.choice((0, 1, 3, 8)), random.choice(_RETRY_AFTER)
        case _:
            pass
    return Action(kind, a, b, c)


def _rivals_over_one_event(random: Random, files: int) -> list[Action]:
    """One event is delivered three times at once, and the reconciler comes by."""
    upload = Action(Kind.UPLOAD, random.randrange(files), 0, 3)
    takes = [Action(Kind.TAKE, random.randrange(_LARGE), process % PROCESSES) for process in range(3)]
    return [upload, *takes, Action(Kind.RECONCILE, random.randrange(PROCESSES)), *_interleave(random)]


def _an_older_file_comes_late(random: Random, files: int) -> list[Action]:
    """A batch is being claimed when an event arrives that is older than what is in it."""
    del files
    uploads = _three_files(random)
    delivered = [Action(Kind.DELIVER, random.randrange(_LARGE), random.randrange(PROCESSES)) for _ in range(3)]
    sleep = Action(Kind.PASS, random.choice((6, 10, 31)))
    return [
        uploads[0],
        Action(Kind.PASS, 1),
        *uploads[1:],
        *delivered[:2],
        Action(Kind.PASS, random.choice((31, 61, 61))),
        Action(Kind.TAKE, random.randrange(_LARGE), 0),
        Action(Kind.RUN, random.randrange(_LARGE), random.randrange(4, 22)),
        Action(Kind.REDELIVER, random.randrange(_LARGE)),
        *delivered[2:],
        sleep,
        Action(Kind.RECONCILE, 1),
        *_interleave(random),
    ]


def _everyone_sees_an_end(random: Random, files: int) -> list[Action]:
    """A run ends; its report, a work item, the reconciler and an impatient person meet over it."""
    del files
    return [
        Action(Kind.DELIVER, random.randrange(_LARGE), 0),
        Action(Kind.DELIVER, random.randrange(_LARGE), 1),
        Action(Kind.JOB, random.randrange(_LARGE), random.randrange(_LARGE)),
        Action(Kind.TAKE, random.randrange(_LARGE), 0),
        Action(Kind.RECONCILE, 1),
        Action(Kind.RUN, random.randrange(_LARGE), random.randrange(12)),
        Action(Kind.RUN, random.randrange(_LARGE), random.randrange(12)),
        Action(Kind.JOB, random.randrange(_LARGE), random.randrange(_LARGE)),
        Action(random.choice((Kind.RETRY, Kind.REPAIR, Kind.CANCEL, Kind.REPLAY)), 0, random.randrange(_LARGE), 1),
        *_interleave(random),
    ]


def _a_process_dies_at_work(random: Random, files: int) -> list[Action]:
    """A call that matters kills its process, and time passes before anyone comes by."""
    del files
    return [
        _make(random, Kind.ARM, 1),
        Action(Kind.DELIVER, random.randrange(_LARGE), random.randrange(PROCESSES)),
        Action(Kind.RECONCILE, random.randrange(PROCESSES)),
        Action(Kind.FINISH, random.randrange(_LARGE)),
        Action(Kind.PASS, random.choice((6, 61))),
    ]


def _a_sleeper_wakes_late(random: Random, files: int) -> list[Action]:
    """A worker falls asleep with arrivals that it has claimed; others finish its work, and more, before it wakes."""
    del files
    uploads = _three_files(random)
    deliver = Action(Kind.DELIVER, 0, 1)
    others: list[Action] = []
    for _ in range(random.randrange(2, 5)):
        begin = random.choice((Action(Kind.RECONCILE, 1), Action(Kind.TAKE, random.randrange(_LARGE), 1)))
        others += [begin, Action(Kind.FINISH, _LAST), Action(Kind.PASS, random.choice((6, 16)))]
    return [
        uploads[0],
        Action(Kind.PASS, 1),
        *uploads[1:],
        *(deliver, deliver),
        Action(Kind.PASS, random.choice((31, 61))),
        Action(Kind.RECONCILE, 0),
        Action(Kind.RUN, _LAST, random.randrange(8, 40)),
        Action(Kind.REDELIVER, _LAST - 2),
        deliver,
        Action(Kind.PASS, 6),
        *others,
        Action(Kind.FINISH, 0),
    ]


def _a_report_comes_late(random: Random, files: int) -> list[Action]:
    """A run fails, a person has it tried again, and the first attempt's report is delivered once more."""
    del files
    fates = list(Fate)
    deliver = [Action(Kind.DELIVER, random.randrange(_LARGE), random.randrange(PROCESSES)) for _ in range(5)]
    return [
        deliver[0],
        deliver[1],
        Action(Kind.JOB, random.randrange(_LARGE), fates.index(Fate.RAISE), 1),
        deliver[2],
        Action(Kind.RECONCILE, 0),
        Action(Kind.FINISH, _LAST),
        Action(random.choice((Kind.RETRY, Kind.RETRY, Kind.REPAIR)), 1, random.randrange(_LARGE), 1),
        Action(Kind.FINISH, _LAST),
        deliver[3],
        Action(Kind.JOB, random.randrange(_LARGE), fates.index(Fate.REPORT_LATE), random.randrange(2)),
        deliver[4],
        Action(Kind.JOB, random.randrange(_LARGE), random.randrange(_LARGE), 1),
    ]


def _nobody_answers(random: Random, files: int) -> list[Action]:
    """The ledger is away for so long that the queue gives a message up."""
    outage = Action(Kind.OUTAGE, 1, random.choice((8, 12)), 0)
    tries = [[Action(Kind.DELIVER, 0, random.randrange(PROCESSES)), Action(Kind.PASS, 10)] for _ in range(5)]
    return [Action(Kind.UPLOAD, random.randrange(files), 0, 1), outage, *(action for pair in tries for action in pair)]


def _three_files(random: Random) -> list[Action]:
    """Return uploads of three files of one pipeline; the event of the first has vanished for now."""
    return [
        Action(Kind.UPLOAD, file, 0, copies) for file, copies in zip(random.sample(_ALPHAS, 3), (0, 1, 1), strict=True)
    ]


def _a_backfill(random: Random) -> list[Action]:
    """Someone has a backfill carried out, perhaps of what has failed too, perhaps stopped again."""
    numbers = [(random.randrange(_LARGE), random.randrange(_LARGE)) for _ in range(random.choice((1, 2, 3)))]
    begun = [Action(Kind.BACKFILL, process, pipeline, random.choice((0, 1, 1))) for process, pipeline in numbers]
    return begun + [action._replace(c=action.c + 2) for action in begun if random.random() < 0.2]


def _interleave(random: Random) -> list[Action]:
    """Return turns of whoever is under way, some of them long, and sleeps in between."""
    turns = [
        Action(Kind.RUN, random.randrange(_LARGE), random.choice((0, 1, 1, 2, 3, 5, 8, 13)))
        if random.random() < 0.9
        else Action(Kind.PASS, random.choice((1, 6, 11)))
        for _ in range(random.randrange(4, 14))
    ]
    return [*turns, Action(Kind.FINISH, random.randrange(_LARGE)), Action(Kind.FINISH, random.randrange(_LARGE))]


_SCENES: Final = (
    _rivals_over_one_event,
    _an_older_file_comes_late,
    _everyone_sees_an_end,
    _a_process_dies_at_work,
    _a_sleeper_wakes_late,
    _a_report_comes_late,
    _nobody_answers,
)
_OF_SMALL_BATCHES: Final = (_an_older_file_comes_late, _a_sleeper_wakes_late)
