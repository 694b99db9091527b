"""State in the session and the link, and locks."""
