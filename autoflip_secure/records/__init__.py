"""What a run, an audit and a budget leave behind: JSON documents with a schema number.

Reports are views of these records and of nothing else, so whatever a reader should see is written down here.
"""
