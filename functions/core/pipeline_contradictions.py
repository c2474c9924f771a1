"""Finds what is right in each pipeline but wrong between them: shadowed routes, outputs that are inputs."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from functions.core.errors import Problem
from functions.core.pipelines import CONTROL_CONTAINERS, Pipeline
from functions.core.reading import shown

__all__ = ["contradictions"]


@dataclass(frozen=True, slots=True)
class _Place:
    """A part of storage that a pipeline reads or writes, and where the file says so."""

    key_path: str
    container: str
    prefix: str


def contradictions(pipelines: Sequence[Pipeline], mistakes: Sequence[Problem] = ()) -> Iterator[Problem]:
    """Yield each pair of statements that cannot both be meant.

    Args:
        pipelines: What the file says.
        mistakes: What is wrong already; a statement that holds one of them is compared with nothing.
    """
    wrong = [mistake.place for mistake in mistakes]
    yield from _repeated_names(pipelines, wrong)
    yield from _shadowed_routes(pipelines, wrong)
    yield from _shadowed_signals(pipelines, wrong)
    yield from _shared_seals(pipelines, wrong)
    inputs = [place for place in _inputs(pipelines) if _is_right(place.key_path, wrong)]
    outputs = [place for place in _outputs(pipelines) if _is_right(place.key_path, wrong)]
    for place in (*inputs, *outputs):
        if place.container in CONTROL_CONTAINERS:
            yield Problem(
                place.key_path, shown(place.container), "a container that Tidegate does not keep its own data in"
            )
    for output in outputs:
        for place in inputs:
            if _overlap(output, place):
                yield Problem(
                    output.key_path,
                    f"{output.container}/{output.prefix}",
                    f"a place apart from the input {place.container}/{place.prefix} of {place.key_path}",
                )


def _is_right(key_path: str, wrong: Collection[str]) -> bool:
    return not any(place == key_path or place.startswith((f"{key_path}.", f"{key_path}[")) for place in wrong)


def _repeated_names(pipelines: Sequence[Pipeline], wrong: Collection[str]) -> Iterator[Problem]:
    for pipeline in pipelines:
        for kind, names in (
            ("routes", [route.name for route in pipeline.routes]),
            ("schedules", [schedule.name for schedule in pipeline.schedules]),
            ("signals", [rule.name for rule in pipeline.signals]),
        ):
            for index, name in enumerate(names):
                place = f"pipelines.{pipeline.key}.{kind}[{index}].name"
                if name in names[:index] and _is_right(place, wrong):
                    yield Problem(place, shown(name), f"a name that no other of the {kind} has")


def _shadowed_routes(pipelines: Sequence[Pipeline], wrong: Collection[str]) -> Iterator[Problem]:
    routes = [
        (key_path, route)
        for pipeline in pipelines
        for index, route in enumerate(pipeline.routes)
        if _is_right(key_path := f"pipelines.{pipeline.key}.routes[{index}]", wrong)
    ]
    for (earlier_path, earlier), (later_path, later) in combinations(routes, 2):
        if earlier.includes(later):
            yield Problem(
                later_path,
                f"route {later.name!r}, which {earlier_path} ({earlier.name!r}) shadows",
                "a blob that reaches it: put it first, or narrow the earlier one",
            )


def _shadowed_signals(pipelines: Sequence[Pipeline], wrong: Collection[str]) -> Iterator[Problem]:
    rules = [
        (key_path, rule)
        for pipeline in pipelines
        if _is_right(f"pipelines.{pipeline.key}.model", wrong)
        for index, rule in enumerate(pipeline.signals)
        if _is_right(key_path := f"pipelines.{pipeline.key}.signals[{index}]", wrong)
    ]
    for (earlier_path, earlier), (later_path, later) in combinations(rules, 2):
        is_same = (earlier.event_type, earlier.model_name) == (later.event_type, later.model_name)
        if is_same and earlier.threshold in {None, later.threshold}:
            yield Problem(
                later_path,
                f"signal {later.name!r}, which {earlier_path} ({earlier.name!r}) shadows",
                "a signal that reaches it: give the earlier one another threshold, or put it last",
            )


def _shared_seals(pipelines: Sequence[Pipeline], wrong: Sequence[str]) -> Iterator[Problem]:
    """Yield markers and manifests of which nobody could say whose files they speak of."""
    waiting = [
        pipeline
        for pipeline in pipelines
        if pipeline.readiness.name
        and all(_is_right(f"pipelines.{pipeline.key}.{part}", wrong) for part in ("readiness", "routes"))
    ]
    for earlier, later in combinations(waiting, 2):
        if earlier.readiness.name == later.readiness.name and any(
            _overlap(_Place("", one.container, one.prefix), _Place("", other.container, other.prefix))
            for one in earlier.routes
            for other in later.routes
        ):
            yield Problem(
                f"pipelines.{later.key}.readiness.name",
                shown(later.readiness.name),
                f"a name that {earlier.key}, which reads the same folders, does not wait for",
            )


def _inputs(pipelines: Sequence[Pipeline]) -> Iterator[_Place]:
    for pipeline in pipelines:
        for index, route in enumerate(pipeline.routes):
            yield _Place(f"pipelines.{pipeline.key}.routes[{index}]", route.container, route.prefix)
        if (data := pipeline.training_data) is not None:
            yield _Place(f"pipelines.{pipeline.key}.training_data", data.container, data.prefix)


def _outputs(pipelines: Sequence[Pipeline]) -> Iterator[_Place]:
    for pipeline in pipelines:
        if (output := pipeline.output) is not None:
            yield _Place(f"pipelines.{pipeline.key}.output", output.container, output.prefix)


def _overlap(one: _Place, other: _Place) -> bool:
    return one.container == other.container and (
        one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    )
