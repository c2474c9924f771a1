"""Runs the stages of Databricks jobs; a notebook needs `start` and the run that it returns."""

from tidegate_mlops.run import Run, start

__all__ = ["Run", "start"]
