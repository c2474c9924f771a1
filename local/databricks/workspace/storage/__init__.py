"""Keeps the files of DBFS, volumes and MLflow artifacts."""
