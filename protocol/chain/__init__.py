"""The same rules as a contract on an EVM chain: calls, transactions, and what a block proves."""
