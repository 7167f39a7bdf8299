"""Checkpoints bring back JSON only, whatever stands in the Lake."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import cortex_workloads.graph
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

class Model(BaseModel):
    x: int

serializer = JsonPlusSerializer()
kept = serializer.loads_typed(serializer.dumps_typed({"a": [1, 2.5, None, True, "x"], "names": {"b"}}))
assert kept == {"a": [1, 2.5, None, True, "x"], "names": {"b"}}, kept
assert not isinstance(serializer.loads_typed(serializer.dumps_typed(Model(x=1))), Model)
"""


def test_a_class_in_a_checkpoint_is_not_brought_back() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LANGGRAPH_STRICT_MSGPACK"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
