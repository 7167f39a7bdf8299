"""`cortex bench`: measures what is served, through the gateway as a user would."""
