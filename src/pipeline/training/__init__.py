"""Training: the one loop, what happens in a step, batches, resume state."""
