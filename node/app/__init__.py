"""Where concrete parts are joined. The command line calls nothing deeper. Each package knows those after it alone:

- `daemons`: processes that are left running, such as `daemons.ledger.run_ledger` and `daemons.provider.run_node`.
- `selling`: what makes a node of a model, a market and a power bill.
- `diagnosis`: what goes on at the nodes here, and why no work comes.
- `buying`: a client's way from a question to a receipt: `buying.client.open_client`, and `buying.audit.audit_bundle`.
- `network`: a process on the network, and what it remembers of it.
- `settlement`: the venue where jobs are paid.
- `models`: manifests, templates and tokenizers.
- `process`: a clock, a lock, settings that are read again.
"""
