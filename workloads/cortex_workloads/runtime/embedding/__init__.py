"""Text to vectors in this process: the model's files and the sessions that run it."""
