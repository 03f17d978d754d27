"""coral-git: neural-network weights in ordinary git."""

__version__ = "0.1.0"
