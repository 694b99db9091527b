"""Results as data: the report, its records, its JSON, its wording. Nothing here draws or prints."""
