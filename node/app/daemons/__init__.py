"""Processes that are left running: node, ledger, gateway, witness, watchtower; and their backups."""
