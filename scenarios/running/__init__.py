"""From a plan to records: cells are built, blocks go to workers, parties are started, progress is shown.

The store is given every block as it finishes.
"""
