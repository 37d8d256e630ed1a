"""Room server: door 2, the stand-alone server."""
