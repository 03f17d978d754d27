"""Readers that propose how a file falls into tensors; whatever they say, the bytes come back exactly."""
