"""Puts a stock MLflow server behind the workspace's MLflow and Unity Catalog APIs."""
