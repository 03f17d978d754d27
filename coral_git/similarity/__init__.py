"""How alike two tensors are, from a few of their values."""
