"""The numbers behind the figures as tables: short on the page, every digit in the CSV."""
