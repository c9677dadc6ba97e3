"""LUKS: disks encrypted with a master key, which passphrases unlock (LUKS On-Disk Format 1.2.3; LUKS2 On-Disk Format 1.1.1)."""
