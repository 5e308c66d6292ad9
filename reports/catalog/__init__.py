"""Reports on an audit of a whole catalog: the proof, the baseline beside it, and what a reader should know."""
