"""Makes pages of the site from the code: plain functions from nothing to {page: Markdown}."""
