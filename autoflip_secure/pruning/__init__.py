"""From guidance to masks, and from masks to smaller models."""
