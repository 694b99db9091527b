"""A device that is not there: what runs on a GPU runs here on it, and what it cannot do fails as it would there."""
