"""A sweep as a reader sees it: algorithms compared under conditions, their names, what training did, what is missing.

Numbers and names only; figures, tables and sentences are made of them in the rooms beside.
"""
