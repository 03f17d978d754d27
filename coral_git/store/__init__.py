"""The store: packs of encoded objects, their indexes, and the caches that may be deleted."""
