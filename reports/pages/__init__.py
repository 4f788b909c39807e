"""Whole pages: HTML and Markdown, drawn from the rooms before."""
