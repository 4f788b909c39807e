"""Sentences: the headline, what is proven, what to keep in mind."""
