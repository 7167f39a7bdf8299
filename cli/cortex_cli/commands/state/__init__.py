"""`cortex state`: what resources are, were and become, as their pods tell it through the gateway."""
