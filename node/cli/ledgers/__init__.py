"""Commands of whoever runs a ledger, witnesses one, or has one as a contract."""
