"""Registers of a board's own: switches, lights, reset."""
