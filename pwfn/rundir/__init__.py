"""A run folder: its files, its name, what code made it, where it stands. Needs no torch."""
