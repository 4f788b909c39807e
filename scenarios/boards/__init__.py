"""Boards: scenarios that never change but for the defence, what a defence came to on one, and running it again."""
