"""Reading runs: tables, plots, pages. Needs no torch."""
