"""What tests of coral-git and of its plugins need: faults on order, and a check that a store is healthy."""
