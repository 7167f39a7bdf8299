"""One module for each command of `cortex`."""
