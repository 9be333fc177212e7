"""Some blocks of a model, run for many sessions at once: the only package that imports torch and transformers.

Reading order: `kv` (pages and their room), `attention` (and what a back end is), `span` (the blocks),
`loader` (weights from disk), `sampling`, `engine` (what the pipeline sees), `audit` (re-execution).

Importing this package costs nothing; importing `engine` or `audit` loads torch, and loading a span transformers.
"""
