"""A node's own rules: who gets a place, when it holds back, and what its jobs came to."""
