"""Devices for those who debug guests."""
