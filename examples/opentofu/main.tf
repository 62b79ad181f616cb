# Servers of an obsdimg project at Vultr, with OpenTofu or Terraform.
#
# Each ISO comes from a URL that Vultr can read (an object store: see docs/vultr.md; the ISO holds
# nothing secret in clear).  The machine boots it, asks for the passphrase on its console, and installs.
# When `obsdimg probe` has had its handshake, set `installed = true` for it: the ISO is taken out, which
# restarts the machine, and removed from the account (if Vultr says that it is still attached,
# apply once more).  Provider and attributes as docs.vultr.com/reference/terraform describes them
# (2025-09-15) and its source shows: a changed iso_id attaches or detaches, and replaces nothing.

terraform {
  required_version = ">= 1.6"
  required_providers {
    vultr = {
      source  = "vultr/vultr"
      version = "~> 2.27"
    }
  }
}

provider "vultr" {} # VULTR_API_KEY

variable "servers" {
  description = "By the name in [servers.NAME]"
  type = map(object({
    region    = string
    plan      = optional(string, "vc2-1c-1gb")
    iso_url   = string
    ports     = optional(list(number), [53])
    installed = optional(bool, false)
  }))
}

locals {
  # Where the tunnel is reached; ssh goes through the tunnel.
  rules = merge([
    for name, server in var.servers : {
      for pair in setproduct(server.ports, ["v4", "v6"]) :
      "${name}-${pair[0]}-${pair[1]}" => { server = name, port = pair[0], family = pair[1] }
    }
  ]...)
}

resource "vultr_iso_private" "server" {
  for_each = { for name, server in var.servers : name => server if !server.installed }
  url      = each.value.iso_url
}

resource "vultr_firewall_group" "server" {
  for_each    = var.servers
  description = "obsdimg ${each.key}"
}

resource "vultr_firewall_rule" "tunnel" {
  for_each          = local.rules
  firewall_group_id = vultr_firewall_group.server[each.value.server].id
  protocol          = "udp"
  ip_type           = each.value.family
  subnet            = each.value.family == "v4" ? "0.0.0.0" : "::"
  subnet_size       = 0
  port              = tostring(each.value.port)
  notes             = "WireGuard"
}

resource "vultr_instance" "server" {
  for_each          = var.servers
  label             = each.key
  region            = each.value.region
  plan              = each.value.plan
  iso_id            = each.value.installed ? null : vultr_iso_private.server[each.key].id
  firewall_group_id = vultr_firewall_group.server[each.key].id
  enable_ipv6       = true
  activation_email  = false
  backups           = "disabled"

  lifecycle {
    # A changed region would erase the server and make an empty one.
    prevent_destroy = true
  }
}

output "addresses" {
  description = "For tunnel.endpoint in [servers.NAME]"
  value       = { for name, one in vultr_instance.server : name => one.main_ip }
}
