"""https: `http` inside TLS."""

from exuvia.disk.protocols.http import Http


class Https(Http):
    """The host's certificates of authorities are believed; `sslverify=off` believes anybody."""

    name = "https"
    schemes = ("https",)
