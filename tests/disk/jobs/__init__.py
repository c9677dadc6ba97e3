"""Tests of exuvia/disk/jobs."""
