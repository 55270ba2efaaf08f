"""Reports as HTML and Markdown, from `summary.json`."""
