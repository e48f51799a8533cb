"""What sealed records are, as onceguard answers with them and as it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NewRecord:
    """A record to write. Encrypt it before, with an authenticated cipher."""

    #: The initialization vector: 12 bytes, never twice with one key.
    iv: bytes
    #: At most 1,000,000 bytes.
    ciphertext: bytes
    #: When the client made it, by its own clock.
    client_time: datetime | None = None
    #: At most 4 KiB. It is not encrypted: the operator can read it.
    metadata: Mapping[str, Any] | None = None
    #: From then on the record counts as deleted.
    expires_at: datetime | None = None

    @property
    def checksum(self) -> str:
        """Of iv and ciphertext: it finds damage."""
        return hashlib.sha256(self.iv + self.ciphertext).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RecordPut:
    """The writing of a record, within a batch."""

    kind: str
    id: str
    record: NewRecord
    #: The ``etag`` of the version to replace; None, if there is no such record yet.
    if_match: str | None = None


@dataclass(frozen=True, kw_only=True)
class RecordDelete:
    """The deletion of a record, within a batch."""

    kind: str
    id: str
    #: The ``etag`` of the version to delete.
    if_match: str


@dataclass(frozen=True, kw_only=True)
class RecordWritten:
    """What a change has written."""

    kind: str
    id: str
    version: int
    #: The number of this change among its owner's.
    sequence: int
    #: For ``if_match``; None of a deleted record.
    etag: str | None
    #: Only True, of a deleted record.
    deleted: bool | None
    #: Of the ciphertext, in bytes.
    size: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record, or what a deleted one has left."""

    kind: str
    id: str
    version: int
    #: The number of its last change among its owner's.
    sequence: int
    #: For ``if_match``; None of a deleted record.
    etag: str | None
    #: Only True, of a deleted record.
    deleted: bool | None
    #: Only True: what is stored is not what was written, and is not handed out.
    damaged: bool | None
    #: Of the ciphertext, in bytes.
    size: int | None
    iv: bytes | None
    ciphertext: bytes | None
    checksum: str | None
    client_time: datetime | None
    metadata: Mapping[str, Any] | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class RecordFeed:
    """A page of changes."""

    items: tuple[Record, ...]
    #: Where to go on.
    next_cursor: str
    #: Whether there is more already.
    has_more: bool


@dataclass(frozen=True, kw_only=True)
class RecordUsage:
    """What an owner has, and may have."""

    bytes: int
    #: Deleted records count until they are forgotten.
    records: int
    #: Records of each kind, without deleted ones.
    kinds: Mapping[str, int]
    max_bytes: int
    max_records: int


@dataclass(frozen=True, kw_only=True)
class InactiveOwner:
    """An owner whose records were neither read nor written for long."""

    did: str
    #: To the hour.
    last_accessed: datetime
    records: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class InactiveRemoved:
    """What was removed of inactive owners."""

    owners: int
    records: int
