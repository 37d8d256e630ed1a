"""Room contrib: Keydesk inside other extensions of Flask. Each module needs the extra of its name."""
