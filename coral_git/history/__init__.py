"""Git's history of weights: commits, what they changed, their metrics and tags."""
