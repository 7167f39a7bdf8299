"""The local cluster: what Kubernetes, PostgreSQL and Valkey are elsewhere, as processes of this machine."""
