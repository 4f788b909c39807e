"""Plug-ins for autoflip-secure: an attack, an aggregator, a pruner and a data set, each in a file of its own."""
