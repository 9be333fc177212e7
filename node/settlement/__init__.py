"""Settlement on an EVM chain: the contract as it was built, its ABI, and what speaks to it."""
