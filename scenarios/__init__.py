"""Scenario files: data, partitions, models, grids, results folder, workers."""
