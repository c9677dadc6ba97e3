"""Tests of `exuvia-img`, beside qemu-img where it is installed."""
