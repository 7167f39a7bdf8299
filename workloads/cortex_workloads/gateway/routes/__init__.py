"""The REST operations: each reads its request, calls one function, renders the answer."""
