"""A study from one file: a grid of training runs, their baselines and controls, and the timing that goes with them."""
