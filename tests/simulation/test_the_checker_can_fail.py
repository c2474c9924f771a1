"""Breaks the code under test on purpose: the simulation finds each defect, and finds nothing in the code as it is."""

import sys

import pytest

from tests.simulation.campaign import run_many
from tests.simulation.defects import DEFECTS

WITHIN = 2000


def violation_of(seed: int, defect: str) -> tuple[int, str] | None:
    """Return the seed and what its schedule breaks, or None if it keeps every promise."""
    campaign = run_many([seed], processes=1, defect=defect, on_progress=lambda _: None)
    return next(iter(campaign.violations.items()), None)


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_found(defect: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A check that cannot fail proves nothing: each of these breaks a promise within 2,000 schedules."""
    found = next(found for seed in range(WITHIN) if (found := violation_of(seed, defect)) or seed == WITHIN - 1)

    assert found is not None, f"{WITHIN} schedules did not show that the code was made to {defect}"
    with capsys.disabled():
        sys.stdout.write(f"\n  {defect}: schedule {found[0] + 1}: {found[1].splitlines()[0][:120]}")


def test_there_are_defects_of_every_kind() -> None:
    assert len(DEFECTS) >= 12
