"""Probabilistic Weight Fixing Networks: a network's weights share a few additive powers-of-two values."""
