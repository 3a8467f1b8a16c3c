"""Secrets: one master key, and what is derived from it.

Every purpose has its own derived key (HKDF-Expand of RFC 5869 with one block), so that a key that
leaks from one place opens no other. Keys of subjects also need a random salt that lies in the
lake: deleting the salt destroys the key, with the master key still in place.
"""

from __future__ import annotations

import hmac
import os
import secrets
import uuid
from pathlib import Path

from flywheel.errors import ConfigError, EnvironmentProblem
from flywheel.lake.store import ObjectStore

MASTER_ENV = "FLYWHEEL_MASTER_KEY"
_MASTER_BYTES = 32
_SALT_BYTES = 32
_FINGERPRINT = "keys/fingerprint"


class Keyring:
    """The keys of one installation. ``home`` holds the master key unless the environment does."""

    def __init__(self, home: Path) -> None:
        self._master = _from_environment() or _from_file(Path(home) / "keys" / "master")
        self._salts: dict[str, bytes] = {}

    def pseudonym(self, tenant: str, user: str) -> str:
        """The keyed pseudonym of a user: 20 hex digits, equal for equal users of one tenant."""
        return hmac.digest(self._derive("pseudonym"), _joined(tenant, user), "sha256").hex()[:20]

    def surrogate_key(self) -> bytes:
        """32 bytes that seed the surrogates of personal data."""
        return self._derive("surrogate")

    def feedback_key(self) -> bytes:
        """32 bytes that sign feedback tokens."""
        return self._derive("feedback")

    def assignment_key(self) -> bytes:
        """32 bytes that split users between the live model and canaries."""
        return self._derive("assignment")

    def subject_key(self, store: ObjectStore, subject: str) -> bytes:
        """The 32-byte key of one subject (a pseudonym); made at first use, the same for all racing callers."""
        salt = self._salts.get(subject)
        if salt is None:
            salt = self._salts[subject] = _salt(store, subject)
        return hmac.digest(self._derive("subject"), subject.encode() + salt, "sha256")

    def destroy_subject_key(self, store: ObjectStore, subject: str) -> None:
        """Make every MAC under the subject's key unverifiable. A later ``subject_key`` is a new, unrelated key."""
        store.delete([_salt_key(subject)])
        self._salts.pop(subject, None)

    def row_mac(self, store: ObjectStore, subject: str, row_id: str) -> str:
        """What a manifest holds of a row: 32 hex digits, meaningless once the subject's key is destroyed."""
        return hmac.digest(self.subject_key(store, subject), row_id.encode(), "sha256").hex()[:32]

    def check_belongs(self, store: ObjectStore, *, claim: bool = True) -> Keyring:
        """Refuse a lake that was filled under another master key: its people would get second pseudonyms.

        The first keyring that opens a lake leaves its fingerprint there.

        Args:
            store: the lake's.
            claim: leave the fingerprint in a lake that has none; without, nothing is written.

        Raises:
            ConfigError: names both ways to give every node the same key.
        """
        mine = self._derive("fingerprint").hex()[:32].encode()
        if claim:
            store.put_if_absent(_FINGERPRINT, mine)
        if not hmac.compare_digest(store.get_or_none(_FINGERPRINT) or mine, mine):
            raise ConfigError(
                f"{store.uri} was filled under another master key than this home's; set {MASTER_ENV} to the key of the "
                "first installation, or set home to its folder"
            )
        return self

    def _derive(self, purpose: str) -> bytes:
        return hmac.digest(self._master, f"flywheel/{purpose}".encode() + b"\x01", "sha256")


def _joined(*parts: str) -> bytes:
    return "\x1f".join(parts).encode()


def _salt_key(subject: str) -> str:
    return f"keys/subjects/{subject}"


def _salt(store: ObjectStore, subject: str) -> bytes:
    key = _salt_key(subject)
    stored = store.get_or_none(key)
    if stored is None:
        store.put_if_absent(key, secrets.token_bytes(_SALT_BYTES))
        stored = store.get(key)  # whoever won the race
    return stored


def _from_environment() -> bytes | None:
    text = os.environ.get(MASTER_ENV)
    return _parse(text, MASTER_ENV) if text else None


def _from_file(path: Path) -> bytes:
    if not path.exists():
        _create(path)
    if path.stat().st_mode & 0o077:
        raise EnvironmentProblem(f"{path} can be read by other users; run: chmod 600 {path}")
    return _parse(path.read_text(), str(path))


def _create(path: Path) -> None:
    """Write a new key beside ``path`` and link it into place: one of several racing processes wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(secrets.token_hex(_MASTER_BYTES))
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()


def _parse(text: str, source: str) -> bytes:
    try:
        key = bytes.fromhex(text.strip())
    except ValueError as error:
        raise ConfigError(f"{source} is not hexadecimal; make one with: openssl rand -hex {_MASTER_BYTES}") from error
    if len(key) < _MASTER_BYTES:
        raise ConfigError(
            f"{source} is shorter than {_MASTER_BYTES} bytes; make one with: openssl rand -hex {_MASTER_BYTES}"
        )
    return key
