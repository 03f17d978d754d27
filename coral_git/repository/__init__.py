"""A repository as its user sees it: set-up, status, listing."""
