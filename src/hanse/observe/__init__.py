"""Metric and event declarations, and their exporters."""
