"""Ships a release to a Databricks workspace: wheels, notebooks, what differs between environments, and jobs."""
