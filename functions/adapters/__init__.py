"""Speaks to the outside through the vendors' SDKs, one module per port."""
