"""Carries requests to the APIs as forgivingly as the real workspace does."""
