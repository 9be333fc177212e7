"""A node: what it measures, asks for and offers, what it serves, and when it takes no work."""
