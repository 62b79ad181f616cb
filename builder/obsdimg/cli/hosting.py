"""Options that `upload` and `deploy` share: the ISO, where the provider gets it, the token."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from obsdimg.cli.options import WithConfig, flag, option
from obsdimg.deploy.session import HostingChoice


@dataclass(frozen=True, kw_only=True)
class WithHosting(WithConfig):
    """Options of `upload` and `deploy` about the ISO, its host and the token."""

    iso: Path | None = option(
        "--iso", type=Path, metavar="F", help="default: images/HOST-RELEASE-PORT.iso"
    )
    name: str | None = option("--name", help="name of the deployment (default: host.name)")
    url: str | None = option(
        "--url", metavar="URL", exclusive="host", help="the ISO is hosted there already"
    )
    serve: str | None = option(
        "--serve", metavar="HOST:PORT", exclusive="host",
        help="serve it from this machine, which the provider reaches at HOST:PORT",
    )  # fmt: skip
    listen: str | None = option(
        "--listen", metavar="ADDR:PORT", help="with --serve: listen there (default: HOST:PORT)"
    )
    s3_keys: Path | None = option(
        "--s3-keys", type=Path, metavar="F", help="keys of the object store (default: AWS_...)"
    )
    allow_secrets: bool = flag("--allow-secrets", help="upload an ISO that holds its passphrase")
    upload_limit: float | None = option(
        "--upload-limit", type=float, metavar="MIN",
        help="how long the provider may take to download the ISO (default: 120)",
    )  # fmt: skip
    token_file: Path | None = option(
        "--token-file", type=Path, metavar="F", help="the token (default: VULTR_API_KEY, keyring)"
    )
    pause: float | None = option(
        "--pause", type=float, metavar="S", help="longest pause between two looks (default: 20 s)"
    )


def hosting_choice(options: WithHosting) -> HostingChoice:
    """What `options` say about where the provider gets the ISO from."""
    return HostingChoice(options.url, options.serve, options.listen, options.s3_keys)
