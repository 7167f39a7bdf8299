"""The gateway: REST, SSE and gRPC in front of the search and graph services of an installation."""
