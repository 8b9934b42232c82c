"""Deploys adtrack to AWS regions, and deletes it."""
