"""Secure aggregation: rows in shares at party processes, links between them, and sums that alone are opened.

CrypTen is imported in one file of this room; the engine sees it through ``secure_rows``.
"""
