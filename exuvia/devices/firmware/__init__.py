"""Interfaces between firmware and machine."""
