"""Defences on a board beside each other: ranked by worst case, as a page, as Markdown and as data."""
