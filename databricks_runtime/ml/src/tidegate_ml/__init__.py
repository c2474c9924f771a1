"""Holds the flight-delay model; `FLIGHT_DELAY` is what an orchestrator works with."""

from typing import Final

from tidegate_ml.flight_delay import FlightDelay

__all__ = ["FLIGHT_DELAY", "FlightDelay"]

FLIGHT_DELAY: Final = FlightDelay()
