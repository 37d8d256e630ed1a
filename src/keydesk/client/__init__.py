"""Room client: a server of Keydesk as store, limiter and place for counts. No secret is sent to it."""
