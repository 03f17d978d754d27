"""The text that git stores instead of a weight file: its model, its one encoding, its reader."""
