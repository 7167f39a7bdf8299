"""The graph service: runs the graph that a CortexWorkflow declares."""

import os

# Read by langgraph when it is imported first: a checkpoint must never bring back a class of its own choosing.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"
