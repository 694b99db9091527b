"""HTML, pictures and files made of a trace; every text is escaped here."""
