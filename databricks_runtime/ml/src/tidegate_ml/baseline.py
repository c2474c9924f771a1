"""Predicts the historical rate of a carrier in an hour of the day: what the model has to beat."""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["CarrierHourRate"]

_PRIOR_FLIGHTS: Final = 50.0  # a pair with fewer flights than this leans towards the overall rate


@dataclass(frozen=True, kw_only=True)
class CarrierHourRate:
    """Share of late arrivals by carrier and scheduled hour, shrunk towards the overall rate."""

    rates: "pd.Series[float]"  # by (carrier, hour)
    overall: float

    @classmethod
    def of(cls, flights: pd.DataFrame, delayed: "pd.Series[float]") -> Self:
        """Return the rates of the given flights; `delayed` is 0 or 1, without NaN."""
        overall = float(delayed.mean())
        by_pair = delayed.groupby([flights["carrier"].astype(str), _hour(flights)]).agg(["sum", "count"])
        rates = (by_pair["sum"] + _PRIOR_FLIGHTS * overall) / (by_pair["count"] + _PRIOR_FLIGHTS)
        return cls(rates=rates, overall=overall)

    def predict(self, flights: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the historical rate for each flight; unseen pairs get the overall one."""
        pairs = pd.MultiIndex.from_arrays([flights["carrier"].astype(str), _hour(flights)])
        return np.asarray(self.rates.reindex(pairs).fillna(self.overall), dtype=np.float64)


def _hour(flights: pd.DataFrame) -> "pd.Series[int]":
    return flights["sched_dep_time"].astype(np.int64) // 100
