"""Structure-aware fuzzing of every decoder that reads bytes from outside: ``make fuzz``, ``python -m scripts.fuzzing``.

Reading order: `target` (what a decoder promises), `mutators` and `trees` (how inputs are made), `wire`, `records`,
`chains`, `gateways`, `proofs` and `local` (the registry: one target for each decoder), `execution` (one input, held
against the promises), `campaign` (many, in processes of their own).
"""
