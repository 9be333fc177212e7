"""Where concrete parts are joined: a ledger process, a provider node, a client. The command line calls nothing deeper.

- `ledger.run_ledger`: the embedded ledger with its HTTP service and a libp2p host that newcomers bootstrap from.
- `provider.run_node`: one span of one model, offered, served and paid.
- `client.open_client`: offers, jobs, balances for one key.
- `audit.audit_bundle`: re-execution of one drawn window.
"""
