"""The services that the operator runs: gateway, search, graph, and the runtime that they share."""
