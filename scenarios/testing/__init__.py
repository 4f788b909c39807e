"""A scenario as something to assert on, for the pytest plugin."""
