"""Figures, one question each; all share a style and ink that follows the page."""
