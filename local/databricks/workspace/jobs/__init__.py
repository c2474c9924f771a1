"""Runs jobs: one engine behind the Jobs API 2.0, 2.1 and 2.2."""
