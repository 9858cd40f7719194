"""How complete a market is, in forms that people read: words, Markdown, a picture, a page."""
