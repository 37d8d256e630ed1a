"""Every number in the docs comes out of here. Run it with `make bench`, or `python -m bench` from the root."""
