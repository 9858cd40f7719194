"""Everything that talks to the world outside the process: the vendor, PostgreSQL, the environment, the file system."""
