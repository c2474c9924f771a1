"""Keeps secrets in scopes."""
