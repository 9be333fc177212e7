"""What `scripts/bench_ledger.py` measures: commits, proofs, start-up, replay."""
