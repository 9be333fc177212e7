"""Guessing ahead: where guesses come from, how far they go, and how they travel."""
