"""Keeping a store whole and small: fsck, gc, and the checks for continuous integration."""
