"""Kills every process at every named point of a file's story, on the real stack, and checks the invariants after it.

The chosen combinations strike one after the other on one cloud, each in a pipeline of its own, while the stories of
those before are still going on; each is followed to its end. One of them alone:
`python -m pytest tests/kills -k worker-after-run_started`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest

from tests.kills.combinations import ALL, QUICK, Combination, pipelines_toml
from tests.kills.points import POINTS
from tests.kills.striking import strike
from tests.support.fragile_cloud import FragileCloud, Victim, fragile_cloud
from tests.support.witness import Witness

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

_ENDS_WITHIN_S: Final = 180.0
_AHEAD: Final = 6  # so many stories more are under way while one is followed to its end


@dataclass(slots=True)
class Strikes:
    """A cloud on which the chosen combinations strike one after the other, and what went wrong in doing so."""

    cloud: FragileCloud
    witness: Witness
    order: Sequence[Combination]
    waiting: list[Combination]
    files: dict[str, int] = field(default_factory=dict[str, int])
    failures: dict[str, Exception] = field(default_factory=dict[str, Exception])

    def reach(self, combination: Combination) -> None:
        """Return once this combination has struck, and a few after it, whose stories go on meanwhile."""
        until = self.order.index(combination) + 1 + _AHEAD
        while self.waiting and len(self.order) - len(self.waiting) < until:
            self._strike_next()
        if combination.id in self.failures:
            raise self.failures[combination.id]

    def reach_all(self) -> None:
        """Return once every combination has struck."""
        while self.waiting:
            self._strike_next()

    def _strike_next(self) -> None:
        combination = self.waiting.pop(0)
        try:
            self.files[combination.id] = strike(self.cloud, self.witness, combination)
        except Exception as error:  # noqa: BLE001 - the combination's own test raises it
            self.failures[combination.id] = error


@pytest.fixture(scope="module")
def strikes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strikes]:
    """A running cloud with a pipeline for each chosen combination."""
    chosen = [found for item in request.session.items if (found := combination_of(item)) is not None]
    with fragile_cloud(tmp_path_factory.mktemp("kills"), pipelines_toml(chosen)) as cloud:
        yield Strikes(cloud, Witness(cloud), chosen, list(chosen))


def combination_of(item: pytest.Item) -> Combination | None:
    """Return what a collected test is about."""
    found = item.callspec.params.get("combination") if hasattr(item, "callspec") else None
    return found if isinstance(found, Combination) else None


@pytest.mark.parametrize(
    "combination",
    [
        pytest.param(combination, id=combination.id, marks=pytest.mark.quick if combination.id in QUICK else ())
        for combination in ALL
    ],
)
def test_the_invariants_hold(strikes: Strikes, combination: Combination) -> None:
    """I1 to I8, as far as they can be seen from outside."""
    strikes.reach(combination)

    files = strikes.files[combination.id]
    strikes.witness.check(combination.pipeline, files=files, outcome=combination.outcome, within_s=_ENDS_WITHIN_S)
    if combination.is_swept_up:
        assert {arrival["source"] for arrival in strikes.witness.story(combination.pipeline).arrivals} == {"sweep"}


def test_nothing_is_given_up(strikes: Strikes) -> None:
    """Whatever died, no message was poisoned, quarantined or dead-lettered."""
    strikes.reach_all()
    for combination in strikes.order:
        strikes.witness.end_of(combination.pipeline, within_s=_ENDS_WITHIN_S)

    assert strikes.witness.given_up() == []


def test_the_list_is_what_it_says() -> None:
    """At least 40 combinations, each of its own name; the quick ones are among them and kill every process."""
    ids = [combination.id for combination in ALL]
    quick = [combination for combination in ALL if combination.id in QUICK]

    assert len(set(ids)) == len(ids) >= 40
    assert {combination.victim for combination in quick} == set(Victim)
    assert {combination.point for combination in ALL} >= POINTS.keys()
    assert len(quick) == len(QUICK)
