"""Images from wherever they are, to batches for training and evaluation."""
