"""The figures of the papers, by what they show."""
