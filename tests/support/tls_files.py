"""A certificate authority and a server's certificate, made for one test."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make(folder: Path, host: str) -> Path:
    """QEMU's names in `folder` (server-cert.pem, server-key.pem, ca-cert.pem); gives the last."""
    folder.mkdir()
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    ca_pem = _certificate(issuer, issuer, authority, authority, None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    server_pem = _certificate(subject, issuer, server, authority, host)
    key = server.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (folder / "ca-cert.pem").write_bytes(ca_pem)
    (folder / "server-cert.pem").write_bytes(server_pem)
    (folder / "server-key.pem").write_bytes(key)
    return folder / "ca-cert.pem"


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    host: str | None,
) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(host is None, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
    )
    others = (
        "content_commitment", "data_encipherment", "key_agreement", "encipher_only",
        "decipher_only", "key_encipherment",
    )  # fmt: skip
    usage = dict.fromkeys(others, False)
    builder = builder.add_extension(
        x509.KeyUsage(
            digital_signature=True, key_cert_sign=host is None, crl_sign=host is None, **usage
        ),
        critical=True,
    )
    if host is not None:
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
