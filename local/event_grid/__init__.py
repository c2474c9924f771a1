"""Stands in for Azure Event Grid: topics, subscriptions, delivery with retry, and the events of a storage account."""
