"""The completeness of a market as text, Markdown, SVG and HTML."""
