"""The ways in which verification can fail; each is its own exception with its own message.

Nothing that raised one of these may be used.  They are raised by the signify, checksum list,
signed package and download modules; messages name the file, never its content.
"""

from __future__ import annotations

from obsdimg.core.errors import ObsdimgError


class VerificationError(ObsdimgError):
    """The base: something could not be shown to be genuine."""


class MalformedKeyError(VerificationError):
    """A public or secret key file is not in signify's format."""


class MalformedSignatureError(VerificationError):
    """A signature is not in signify's format."""


class MalformedListError(VerificationError):
    """A checksum list has a line that is not `SHA256 (name) = hex`, or contradicts itself."""


class TruncatedError(VerificationError):
    """A key, signature, list or archive ends too early."""


class WrongKeyError(VerificationError):
    """The signature was made by another key: the key numbers differ."""


class BadSignatureError(VerificationError):
    """The key number fits and the signature does not: message or signature was changed."""


class HashMismatchError(VerificationError):
    """A file's hash is not the one in the signed list."""


class MissingFromListError(VerificationError):
    """The signed list does not mention the file."""


class WrongPassphraseError(VerificationError):
    """The passphrase does not open the secret key (or the key file is damaged)."""


class PassphraseNeededError(VerificationError):
    """The secret key is protected and no passphrase was given."""


class KeyUnknownError(VerificationError):
    """The release file has no key of the kind that would be needed."""
