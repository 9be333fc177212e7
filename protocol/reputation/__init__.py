"""What is remembered of a peer, and whom to keep where not all find room."""
