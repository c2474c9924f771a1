"""Prepares a clone: both Python environments, Azurite, the Spark jars and the demo's data, each from a lock file."""
