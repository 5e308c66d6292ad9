"""Reports from results files: tables, figures, an HTML page, a Markdown summary; no torch."""
