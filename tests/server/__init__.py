"""Door 2: the stand-alone server."""
