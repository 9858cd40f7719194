"""What the platform does, told without Dagster: adapters put to work by the domain's rules."""
