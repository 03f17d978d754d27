"""Lossless block codecs: how the raw bytes of an object become the stored bytes of a pack entry."""
