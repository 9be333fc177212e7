"""Commands of whoever buys answers: offers, routes, runs, conversations, receipts, audits."""
