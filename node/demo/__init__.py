"""`joule demo`: a ledger, three nodes and one paid job as separate processes on this machine."""
