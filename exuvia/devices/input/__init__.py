"""Keyboards, mice and their controllers."""
