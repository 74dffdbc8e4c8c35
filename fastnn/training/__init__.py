"""Training: what to train with, epochs of steps, when to stop, and runs that go on after they were killed."""
