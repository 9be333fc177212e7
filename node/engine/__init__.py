"""Some blocks of a model, run for many sessions at once: the only package that imports torch.

Reading order: `kv` (pages and their room), `architecture` and `rope` (what a block is like), `matrices` (products),
`attention` (and what a back end is), `block`, `span` (the blocks), `loader` (weights from disk), `sampling`, `engine`
(what the pipeline sees), `audit` (re-execution).

Importing this package costs nothing; importing `engine` or `audit` loads torch.
"""
