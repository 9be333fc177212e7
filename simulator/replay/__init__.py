"""What really happened: a ledger's log, receipts and offers become a trace, and a scenario that runs it again."""
