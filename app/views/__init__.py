"""The views of the page, one a file: each is given what the sidebar has chosen, and draws."""
