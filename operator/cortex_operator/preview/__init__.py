"""What an apply would do: the reconcilers' own passes, rehearsed on a copy of what is there. Nothing is written."""
