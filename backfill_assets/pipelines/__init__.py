"""The use cases: they connect the adapters by the rules of the domain. Nothing here imports Dagster."""
