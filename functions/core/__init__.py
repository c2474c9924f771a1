"""Answers what should happen; pure, on the standard library alone."""
