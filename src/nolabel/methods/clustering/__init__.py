"""Clusters and codes as labels of one's own."""
