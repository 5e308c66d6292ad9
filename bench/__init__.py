"""The bench: real models on real input, every freeze level timed, and held against what was predicted."""
