"""Where blocks run: in this process, in worker processes, in a pool of the user's own, on a Ray cluster.

A sweep knows :class:`.base.Executor` alone; the records are the same wherever they come from.
"""
