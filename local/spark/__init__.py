"""Prepares what Spark needs from the machine: a fitting Java and the jars that PyPI does not carry."""
