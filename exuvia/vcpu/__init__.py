"""Processors as a machine sees them, and the virtual time that they share."""
