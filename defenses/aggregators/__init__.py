"""Rival aggregators: rules that turn the rows of a round into one step without scoring agreement.

One file a rule, with the equation and the paper; the interfaces of the engine are all that they know.
"""
