"""What a client asks of every node and hop, and how far a claim about a place is backed."""
