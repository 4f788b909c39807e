"""What a spreadsheet takes for a number."""


def is_number(cell: str) -> bool:
    """Whether a cell of a CSV file is a number to whoever reads it."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
