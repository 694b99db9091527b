"""Results as a reader sees them: tables, Markdown, LaTeX, one HTML page."""
