"""The status page, JSON API and metrics, as one small HTTP server. What they show is read and computed elsewhere."""
