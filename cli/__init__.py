"""Gives people the `tidegate` command."""
