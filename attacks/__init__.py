"""Malicious clients: what they do to their labels and their updates."""
