"""Room stores: where keys live. Each backend is one module; `keydesk.build` picks it from the settings."""
