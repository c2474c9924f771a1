"""Runs one notebook of the local workspace in a process of its own, as a driver of the real cluster would."""
