"""The running server, reached through the project's own tunnel: ssh, state, changes."""
