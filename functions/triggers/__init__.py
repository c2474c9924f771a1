"""Holds the entry points: each parses to a domain type, calls one service and maps the outcome."""
