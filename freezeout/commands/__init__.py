"""The commands of `python -m freezeout`, one module each: `add_arguments` declares, `run` does."""
