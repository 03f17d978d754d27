"""Merging weights: what git's merge driver and ``git coral merge`` do with a file that both sides changed."""
