"""One training run, epoch by epoch: data, architectures, the epoch, checkpoints, and the Ray Trainable around it."""
