"""The strategies: how one tensor is made of several versions of it. One file each; pure functions."""
