"""What every process has: a clock, a lock on its key, its place among what runs here, settings that are read again."""
