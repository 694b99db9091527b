"""Where the page's texts, checkpoints and reports come from."""
