"""Git's own mechanics: running the git binary, its filter protocol, index, attributes, hooks and config."""
