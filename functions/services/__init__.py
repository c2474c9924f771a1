"""Holds the application's functions: each does one thing through ports, and is safe to repeat after any crash."""
