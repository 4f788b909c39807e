"""The commands, a module each. Heavy imports happen inside them, so that ``--help`` is quick."""
