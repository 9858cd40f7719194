"""How complete a market is: the asset, and the sensor that refreshes it after runs."""
