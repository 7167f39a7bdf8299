"""The operator: turns CortexIndex and CortexWorkflow into running services."""
