"""How complete a market is, in forms that people read: words, Markdown, a picture, a page.

What lives here: text and drawings made from what the domain counted. What does not: counting, terminals, Dagster, files.
"""
