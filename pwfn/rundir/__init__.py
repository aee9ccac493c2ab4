"""The folder of a run, without torch: its files, its name, the code that made it, how far it got."""
