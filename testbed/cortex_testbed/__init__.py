"""The test bed: a whole Kubernetes on one machine, from pinned Go modules, with no Docker and no image registry."""
