"""The way of images from where they are stored to batches for training and evaluation."""
