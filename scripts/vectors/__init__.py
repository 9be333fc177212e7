"""One small job after another, down to the bytes: what `python -m scripts.vectors.job` writes to tests/vectors."""
