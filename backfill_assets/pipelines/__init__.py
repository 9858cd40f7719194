"""What the platform does, told without Dagster: adapters put to work by the domain's rules.

What lives here: one module a capability, each a few functions over clients and stores that are passed in. What does not:
dagster, the environment, SQL, HTTP.
"""
