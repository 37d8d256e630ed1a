"""Room keys: what a key is. Pure values, no I/O."""
