"""The Kubernetes API as raw JSON: requests, lists, watches. Pure transport, which imports nothing else of Cortex."""
