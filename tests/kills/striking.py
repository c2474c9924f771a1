"""Lets one combination strike: begins its story, kills at its point, and starts again what was killed."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from azure.core.exceptions import AzureError

from tests.kills.combinations import Combination
from tests.kills.points import point
from tests.support.fragile_cloud import FragileCloud
from tests.support.plane_cloud import TOPIC
from tests.support.tripwire import Wire
from tests.support.witness import Witness

__all__ = ["strike"]

_STRIKES_WITHIN_S: Final = 90.0
_LOOK_EVERY_S: Final = 1.0
_TELLINGS: Final = 8


def strike(cloud: FragileCloud, witness: Witness, combination: Combination) -> int:
    """Return how many files were uploaded until the combination had struck.

    Some points are in one of two ways that a story may take: a reconciler that is faster than the notebook's report
    ends a run that was never `reported`. Then the story is told again with another file.
    """
    if combination.workspace_fault is not None:
        cloud.workspace.fault(**combination.workspace_fault)
    if combination.event_grid_fault is not None:
        cloud.event_grid_fault(**_aimed_at(combination), **combination.event_grid_fault)
    with ThreadPoolExecutor(1) as uploader:
        if not combination.point:
            uploader.submit(_upload, cloud, combination, 0).result(_STRIKES_WITHIN_S)
            return combination.files
        wire = Wire(
            point=point(combination.point, combination.pipeline),
            when=combination.when,
            act=lambda: _kill(cloud, combination),
            times=combination.times,
        )
        with cloud.tripwire.armed(wire):
            for telling in range(_TELLINGS):
                uploading = uploader.submit(_upload, cloud, combination, telling)  # knocks until it is answered
                if _is_struck(wire, witness, combination, files=(telling + 1) * combination.files):
                    break
            else:
                raise AssertionError(f"{_TELLINGS} stories ended and none came to {wire.point.name!r}")
        if combination.victim is not None:
            cloud.revive(combination.victim)
        uploading.result(_STRIKES_WITHIN_S)
    return (telling + 1) * combination.files


def _is_struck(wire: Wire, witness: Witness, combination: Combination, *, files: int) -> bool:
    """Return whether the wire strikes before the story is over."""
    deadline = time.monotonic() + _STRIKES_WITHIN_S
    while not wire.is_struck.wait(_LOOK_EVERY_S):
        if time.monotonic() > deadline:
            raise AssertionError(f"the story neither ends nor comes to {wire.point.name!r}")
        try:
            story = witness.story(combination.pipeline)
        except AzureError:
            continue  # the storage is being killed
        if story.is_over and len(story.arrivals) >= files:
            return wire.is_struck.is_set()
    if wire.error is not None:
        raise wire.error
    return True


def _upload(cloud: FragileCloud, combination: Combination, telling: int) -> None:
    for number in range(combination.files):
        cloud.upload(f"{combination.pipeline}/{combination.story}-{telling}-{number}.parquet")


def _kill(cloud: FragileCloud, combination: Combination) -> None:
    if combination.victim is not None:
        cloud.kill(combination.victim, pipeline=combination.pipeline)


def _aimed_at(combination: Combination) -> dict[str, str]:
    """Return what makes an Event Grid fault strike this combination's events alone."""
    assert combination.event_grid_fault is not None
    if "publish" in combination.event_grid_fault["kind"]:
        return {"source": TOPIC}
    named = {"subject_contains": combination.pipeline}
    return named if "subscription" in combination.event_grid_fault else {**named, "subscription": "arrivals"}
