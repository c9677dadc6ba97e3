"""The devices, one file each, in folders by kind."""
