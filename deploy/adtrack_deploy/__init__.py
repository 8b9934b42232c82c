"""Rolls adtrack out to AWS regions, and takes it down."""
