"""Code of the user's own: found by its dotted name, called, and every way in which that fails told in one sentence.

Knows no family; data and models ask it with their own words.
"""
