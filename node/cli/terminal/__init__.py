"""What all commands share: options, signals, errors that end them, lines, tables, progress."""
