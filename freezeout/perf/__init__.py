"""Cost curves: what one training step costs at every freeze level, measured or predicted, and what a schedule saves."""
