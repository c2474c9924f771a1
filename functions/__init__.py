"""Decides which run an event starts, starts it exactly once, and announces how it ended."""
