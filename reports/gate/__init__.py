"""A finished sweep against a baseline: metrics, decisions with error rates, files for other machines."""
