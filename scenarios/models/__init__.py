"""Models by name, models of the user's own, and the rehearsal that finds what is wrong with one before a run.

Knows data only as rows to try a model on.
"""
