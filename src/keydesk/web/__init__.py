"""Room web: HTTP without a framework. Where secrets are read from a request, and what refusals look like."""
