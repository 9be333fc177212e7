"""Keys, and the money and stakes that they have on a ledger."""
