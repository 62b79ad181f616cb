"""One page that shows a server before it is built: its network, answers, files and rules."""
