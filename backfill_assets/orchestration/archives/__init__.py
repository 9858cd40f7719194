"""Archives of whole markets: the files, their checks, and the schedule that reads new and replaced flat files."""
