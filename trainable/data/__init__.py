"""Images from disk to batches: layouts, splits, decode-once cache, augmentation, mixing."""
