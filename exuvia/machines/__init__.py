"""Machines: one file each, a page of wires."""
