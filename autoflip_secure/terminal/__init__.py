"""What people read on a terminal: streams, notes, names that are nearly right, text made safe to show.

Nothing here knows what is being told; messages come from where the error is.
"""
