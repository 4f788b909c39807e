"""Two sweeps side by side: which cells are the same experiment, and what changed."""
