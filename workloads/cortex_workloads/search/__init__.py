"""The search service: a CortexIndex as a Haystack pipeline over the Lake."""
