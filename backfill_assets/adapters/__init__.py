"""Everything that talks to the world outside the process: the vendor, PostgreSQL, the environment, the file system.

What lives here: clients and stores, one module each. What does not: dagster, and decisions; those are the domain's.
"""
