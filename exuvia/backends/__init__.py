"""The host's side of devices: where characters, frames and pictures go and come from."""
