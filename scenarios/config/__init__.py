"""From a YAML document to validated cells: settings, grid, short forms, messages with file and line.

Nothing here runs anything; it knows plug-ins by their tables.
"""
