"""Models: the network with its parameters and what is known of them, predictions, and model files."""
