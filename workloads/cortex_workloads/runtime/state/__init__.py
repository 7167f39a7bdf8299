"""State of resources: true in the Lake, with a copy in Valkey that is quick to read and to follow."""
