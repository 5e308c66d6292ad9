"""A whole catalog of models audited: every model partitioned, and its freeze levels proven."""
