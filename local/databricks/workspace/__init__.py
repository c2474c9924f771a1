"""Answers the Databricks workspace's REST API on this machine."""
