"""The site set (siteXX/): what lands in / of the installed system, and the clients' files."""
