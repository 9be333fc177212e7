"""Canonical bytes: what every message, and every file that somebody else may have written, is read and written by."""
