"""One federation: clients, server, and the rounds between them, for a whole block of cells at once.

State in, state out; what happened is handed to the recorder. Cells come from scenarios, of which nothing here knows.
"""
