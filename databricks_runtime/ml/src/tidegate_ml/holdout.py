"""Splits flights by time, so that a model is measured on days after those it learnt from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Holdout", "split_by_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """The first day that is held out, and which rows lie before it."""

    first_day: pd.Timestamp
    is_fit: npt.NDArray[np.bool_]


def split_by_time(days: "pd.Series[pd.Timestamp]") -> Holdout:
    """Hold out the last calendar month; with one month only, its last fifth of days.

    Raises:
        ValueError: All flights are on one day, so there is no later day to measure on.
    """
    months = days.dt.to_period("M")
    if months.min() != months.max():
        first = months.max().to_timestamp()
    else:
        distinct = np.sort(days.unique())
        if len(distinct) < 2:  # noqa: PLR2004 - one day to learn from and one to measure on
            raise ValueError(f"expected flights on at least 2 days to hold some out, got {len(distinct)}")
        first = pd.Timestamp(distinct[min(len(distinct) - 1, int(len(distinct) * 0.8))])
    return Holdout(first_day=first, is_fit=(days < first).to_numpy(dtype=np.bool_))
