"""One job between a client and its legs: terms, orders, frames, receipts, what is owed, and how it goes on."""
