"""Pre-aggregators: rules that clip or mix the rows of a round before an aggregator sees them.

One file a rule, with the equation and the paper; the interfaces of the engine are all that they know.
"""
