"""From records to the results folder's tables, tests and figures; no model runs here."""
