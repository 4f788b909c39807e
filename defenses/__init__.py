"""Aggregators that do not score agreement: the rivals."""
