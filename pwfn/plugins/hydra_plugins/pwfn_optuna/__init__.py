"""Hydra sweeper of ``hydra/sweeper=optuna``; Hydra finds it by its place in ``hydra_plugins``."""
