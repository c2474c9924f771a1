"""Offers notebooks the `dbutils` of the platform, as far as a local run can keep its promises."""
