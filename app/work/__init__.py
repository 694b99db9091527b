"""What the page keeps and runs: cached model runs, reports, trade-off tables, jobs beside the page."""
