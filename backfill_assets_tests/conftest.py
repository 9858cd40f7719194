"""What several test folders share. What does not live here: fixtures that one folder uses."""
