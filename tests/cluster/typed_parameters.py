"""Parses the parameters of a run for tests of what comes after parsing."""

from collections.abc import Mapping

from tidegate_mlops.parameters import ScoringParameters, parse_parameters


def as_scoring(values: Mapping[str, str]) -> ScoringParameters:
    """Return what a notebook's first cells make of the strings of a scoring run."""
    parameters = parse_parameters("scoring", values)
    assert isinstance(parameters, ScoringParameters)
    return parameters
