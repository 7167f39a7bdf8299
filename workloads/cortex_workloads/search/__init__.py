"""The search service: a CortexIndex as a Haystack pipeline over the Lake."""

import logging
import os

# Haystack reports its use to its makers unless told not to, before it is imported; and logs every step.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
logging.getLogger("haystack").setLevel(logging.WARNING)
