"""Stands in for Application Insights: takes telemetry, keeps it, and shows each trace as one page."""
