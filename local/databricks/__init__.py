"""Embeds a Databricks workspace: its REST API, and processes that run notebooks."""
