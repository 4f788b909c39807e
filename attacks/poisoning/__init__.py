"""Malicious clients: what they do to their labels and to the updates that they send.

Each is a frozen plug-in; it knows the interfaces of the engine and nothing else.
"""
