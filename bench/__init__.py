"""Measures the project against named baselines, as ratios in one run."""
