"""Networks: how they are built, and how their weights are read and written."""
