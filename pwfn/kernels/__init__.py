"""Fast loops over long vectors of weights; they import torch only."""
