"""Says what the cluster's Python environment holds."""
