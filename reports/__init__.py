"""A view of run records: statistics, figures, one HTML file."""
