"""Counts, percentiles, the call log and the Prometheus text."""
