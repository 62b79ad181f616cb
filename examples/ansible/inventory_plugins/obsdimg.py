"""Ansible inventory plugin: the servers of an obsdimg project."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin

DOCUMENTATION = r"""
name: obsdimg
short_description: Servers of an obsdimg project
description:
  - Reads the project by C(obsdimg inventory); the servers are reached through the project's own
    tunnel, without WireGuard or root on this computer.
options:
  plugin:
    description: Must be C(obsdimg).
    required: true
    choices: [obsdimg]
  project:
    description: The project's obsdimg.toml, relative to the inventory file.
    default: obsdimg.toml
  command:
    description: How obsdimg is called.
    default: obsdimg
  client:
    description: As which client of the tunnel.
"""

SECONDS = 120
"""For reading the project: fifty servers take ten."""


class InventoryModule(BaseInventoryPlugin):
    NAME = "obsdimg"

    def verify_file(self, path: str) -> bool:
        """Whether the file is for this plugin, by its name."""
        return super().verify_file(path) and path.endswith(("obsdimg.yml", "obsdimg.yaml"))

    def parse(self, inventory, loader, path, cache=True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        project = Path(path).resolve().parent / self.get_option("project")
        words = [*shlex.split(self.get_option("command")), "inventory", "-q", "-c", str(project)]
        if client := self.get_option("client"):
            words += ["--as", client]
        said = self._told(words)
        for group, content in said.items():
            if group == "_meta":
                continue
            self.inventory.add_group(group)
            for host in content["hosts"]:
                self.inventory.add_host(host, group=group)
        for host, variables in said["_meta"]["hostvars"].items():
            for name, value in variables.items():
                self.inventory.set_variable(host, name, value)

    def _told(self, words: list[str]) -> dict:
        """What obsdimg says."""
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AnsibleParserError(f"{words[0]}: {error}") from error
        if done.returncode != 0:
            raise AnsibleParserError(done.stderr.strip() or f"{words[0]}: exit {done.returncode}")
        return json.loads(done.stdout)
