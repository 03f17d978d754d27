"""The way of the data: from a file to its manifest and back, to remote stores and from them."""
