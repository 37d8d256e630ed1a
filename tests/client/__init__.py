"""The client, against a server that runs."""
