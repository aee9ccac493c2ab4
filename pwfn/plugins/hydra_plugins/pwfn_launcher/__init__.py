"""Hydra launchers ``pwfn_slurm`` and ``pwfn_local``; Hydra finds them by their place in ``hydra_plugins``."""
