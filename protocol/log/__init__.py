"""Verifiable logs: Merkle trees, tiles, signed notes, checkpoints, witnesses, and the proof of a fork."""
