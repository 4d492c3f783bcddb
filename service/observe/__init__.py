"""Metrics, gauges and traces: they count and show, and never store."""
