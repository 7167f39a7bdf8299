"""What keeps a part that fails from taking down those that ask it."""
