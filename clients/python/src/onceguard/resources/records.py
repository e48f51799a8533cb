"""Sealed records: what agents encrypted and their devices share. onceguard cannot read it.

A write names the version that it replaces, so that a lost answer is repeated safely: where the
first try was made, the second is refused, and the record that is there has the checksum of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from .. import errors
from ..records import (
    InactiveOwner,
    InactiveRemoved,
    NewRecord,
    Record,
    RecordDelete,
    RecordFeed,
    RecordPut,
    RecordUsage,
    RecordWritten,
)
from ..transport import AsyncTransport, Exchanged, Plan, Request, Transport, exchange, read
from ..wire import without_none, write_bytes, write_time
from .feeds import record_feed
from .pages import Listing, filters

Operation = RecordPut | RecordDelete


def _path(did: str, *more: str) -> str:
    return "/".join(["/v1/records", *(quote(part, safe="") for part in (did, *more))])


def _fields(record: NewRecord) -> dict[str, Any]:
    times = {"client_time": record.client_time, "expires_at": record.expires_at}
    return {
        "iv": write_bytes(record.iv),
        "ciphertext": write_bytes(record.ciphertext),
        "checksum": record.checksum,
        **without_none({"metadata": record.metadata}),
        **{name: write_time(time) for name, time in times.items() if time is not None},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    named = {"kind": operation.kind, "id": operation.id}
    if isinstance(operation, RecordDelete):
        return {"op": "delete", **named, "if_match": operation.if_match}
    precondition = (
        {"if_match": operation.if_match} if operation.if_match else {"if_none_match": "*"}
    )
    return {"op": "put", **named, **precondition, "record": _fields(operation.record)}


def _is_repeatable(if_match: str | None) -> bool:
    """Any version would do for ``*``: also one that another device has written since our first
    try."""
    return if_match != "*"


def _written(record: Record) -> RecordWritten:
    """What wrote a record that is there."""
    return RecordWritten(
        kind=record.kind,
        id=record.id,
        version=record.version,
        sequence=record.sequence,
        etag=record.etag,
        deleted=None,
        size=record.size or 0,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


def _ours(did: str, put: RecordPut, retries: int) -> Plan[RecordWritten | None]:
    """What an earlier try has written, if it is still there."""
    try:
        record = yield from read_record(did, put.kind, put.id, retries)
    except errors.NotFound:
        return None
    return _written(record) if record.checksum == put.record.checksum else None


def put_record(did: str, put: RecordPut, retries: int) -> Plan[RecordWritten]:
    headers = {"If-Match": put.if_match} if put.if_match else {"If-None-Match": "*"}
    request = Request(
        "PUT",
        _path(did, put.kind, put.id),
        body=_fields(put.record),
        headers=headers,
        repeatable=_is_repeatable(put.if_match),
    )
    try:
        return (yield from exchange(request, retries)).read(RecordWritten)
    except errors.PreconditionFailed as error:
        written = None if error.attempts < 2 else (yield from _ours(did, put, retries))
        if written is None:
            raise
        return written


def delete_record(did: str, kind: str, record_id: str, if_match: str, retries: int) -> Plan[None]:
    request = Request(
        "DELETE",
        _path(did, kind, record_id),
        headers={"If-Match": if_match},
        repeatable=_is_repeatable(if_match),
    )
    try:
        yield from exchange(request, retries)
    except errors.PreconditionFailed as error:
        if error.attempts < 2:
            raise
        try:
            yield from read_record(did, kind, record_id, retries)
        except errors.NotFound:
            # An earlier try deleted it, and its answer was lost.
            return
        raise


def change_records(
    did: str, operations: list[Operation], retries: int
) -> Plan[tuple[RecordWritten, ...]]:
    puts = [each for each in operations if isinstance(each, RecordPut)]
    # What a deletion has left cannot be read again: such a batch is sent once.
    only_puts = len(puts) == len(operations)
    request = Request(
        "POST",
        _path(did, "batch"),
        body={"operations": [_operation(each) for each in operations]},
        repeatable=only_puts and all(_is_repeatable(put.if_match) for put in puts),
    )
    try:
        results = (yield from exchange(request, retries)).member("results")
        return tuple(read(RecordWritten, result) for result in results)
    except errors.PreconditionFailed as error:
        if error.attempts < 2:
            raise
        found: list[RecordWritten] = []
        for put in puts:
            written = yield from _ours(did, put, retries)
            if written is None:
                raise
            found.append(written)
        return tuple(found)


def read_record(did: str, kind: str, record_id: str, retries: int) -> Plan[Record]:
    request = Request("GET", _path(did, kind, record_id), repeatable=True)
    return (yield from exchange(request, retries)).read(Record)


def read_if_changed(
    did: str, kind: str, record_id: str, etag: str, retries: int
) -> Plan[Record | None]:
    headers = {"If-None-Match": etag}
    request = Request("GET", _path(did, kind, record_id), headers=headers, repeatable=True)
    exchanged: Exchanged = yield from exchange(request, retries)
    return None if exchanged.reply.status == 304 else exchanged.read(Record)


def record_usage(did: str, retries: int) -> Plan[RecordUsage]:
    request = Request("GET", _path(did, "usage"), repeatable=True)
    return (yield from exchange(request, retries)).read(RecordUsage)


def delete_records(did: str, retries: int) -> Plan[int]:
    deleted: int = (yield from exchange(Request("DELETE", _path(did)), retries)).member("deleted")
    return deleted


def delete_inactive(inactive_days: int, retries: int) -> Plan[InactiveRemoved]:
    request = Request("DELETE", "/v1/records", filters(inactive_days=inactive_days))
    return (yield from exchange(request, retries)).read(InactiveRemoved)


def _inactive(inactive_days: int, page_size: int | None) -> Listing[InactiveOwner]:
    query = filters(inactive_days=inactive_days, limit=page_size)
    return Listing("/v1/records", partial(read, InactiveOwner), query)


class Records:
    """``client.records``"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def put(
        self,
        did: str,
        kind: str,
        record_id: str,
        record: NewRecord,
        *,
        if_match: str | None = None,
    ) -> RecordWritten:
        """Writes a record: a new one, or with ``if_match=record.etag`` in the place of that one.

        >>> written = client.records.put(did, "sync", "notes", NewRecord(iv=iv, ciphertext=sealed))
        >>> client.records.put(did, "sync", "notes", newer, if_match=written.etag)

        A lost answer is repeated: where the first try was made, the record has this checksum. With
        ``if_match="*"``, which is any version, nothing is repeated.

        :raises PreconditionFailed: there is another version. Read it, merge, and write again.
        """
        put = RecordPut(kind=kind, id=record_id, record=record, if_match=if_match)
        return self._transport.run(put_record(did, put, self._transport.retries))

    def read(self, did: str, kind: str, record_id: str) -> Record:
        """Reads a record."""
        return self._transport.run(read_record(did, kind, record_id, self._transport.retries))

    def read_if_changed(self, did: str, kind: str, record_id: str, etag: str) -> Record | None:
        """Reads a record; None if it is still the one with this ``etag``."""
        return self._transport.run(
            read_if_changed(did, kind, record_id, etag, self._transport.retries)
        )

    def delete(self, did: str, kind: str, record_id: str, *, if_match: str) -> None:
        """Deletes a record: the version with this ``etag``."""
        self._transport.run(delete_record(did, kind, record_id, if_match, self._transport.retries))

    def change(self, did: str, operations: Iterable[Operation]) -> tuple[RecordWritten, ...]:
        """Writes and deletes up to 100 records: all, or none. A batch without deletions is repeated
        as :meth:`put` is.

        >>> client.records.change(did, [RecordPut(kind="sync", id="notes", record=record)])
        """
        plan = change_records(did, list(operations), self._transport.retries)
        return self._transport.run(plan)

    def list(
        self,
        did: str,
        *,
        kind: str | None = None,
        metadata: Mapping[str, str] | None = None,
        contents: bool = True,
        page_size: int | None = None,
    ) -> Iterator[Record]:
        """The records that are there; with ``metadata``, those that have these members. Without
        ``contents``, they come without iv and ciphertext."""
        feed = record_feed(_path(did), kind, contents, page_size, metadata)
        for page in feed.on(self._transport, None):
            yield from (record for record in page.items if not record.deleted)

    def follow(
        self,
        did: str,
        *,
        since: str | None = None,
        kind: str | None = None,
        contents: bool = True,
        page_size: int | None = None,
    ) -> Iterator[RecordFeed]:
        """What has changed, deletions included, in pages, until there is no more for now. Keep the
        ``next_cursor`` of the last page, and give it as ``since`` the next time.

        :raises CursorExpired: read everything anew, and drop what is not in it.
        """
        return record_feed(_path(did), kind, contents, page_size).on(self._transport, since)

    def usage(self, did: str) -> RecordUsage:
        """What an owner has, and may have."""
        return self._transport.run(record_usage(did, self._transport.retries))

    def delete_all(self, did: str) -> int:
        """Removes all records of an owner; says how many."""
        return self._transport.run(delete_records(did, self._transport.retries))

    def inactive(
        self, inactive_days: int, *, page_size: int | None = None
    ) -> Iterator[InactiveOwner]:
        """Owners whose records were neither read nor written for so many days."""
        return _inactive(inactive_days, page_size).on(self._transport)

    def delete_inactive(self, inactive_days: int) -> InactiveRemoved:
        """Removes the records of these owners. Look with :meth:`inactive` first."""
        return self._transport.run(delete_inactive(inactive_days, self._transport.retries))


class AsyncRecords:
    """``client.records`` of the asyncio client; :class:`Records` describes the calls."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def put(
        self,
        did: str,
        kind: str,
        record_id: str,
        record: NewRecord,
        *,
        if_match: str | None = None,
    ) -> RecordWritten:
        """Writes a record: a new one, or with ``if_match=record.etag`` in the place of that one."""
        put = RecordPut(kind=kind, id=record_id, record=record, if_match=if_match)
        return await self._transport.run(put_record(did, put, self._transport.retries))

    async def read(self, did: str, kind: str, record_id: str) -> Record:
        """Reads a record."""
        return await self._transport.run(read_record(did, kind, record_id, self._transport.retries))

    async def read_if_changed(
        self, did: str, kind: str, record_id: str, etag: str
    ) -> Record | None:
        """Reads a record; None if it is still the one with this ``etag``."""
        plan = read_if_changed(did, kind, record_id, etag, self._transport.retries)
        return await self._transport.run(plan)

    async def delete(self, did: str, kind: str, record_id: str, *, if_match: str) -> None:
        """Deletes a record: the version with this ``etag``."""
        await self._transport.run(
            delete_record(did, kind, record_id, if_match, self._transport.retries)
        )

    async def change(self, did: str, operations: Iterable[Operation]) -> tuple[RecordWritten, ...]:
        """Writes and deletes up to 100 records: all, or none."""
        plan = change_records(did, list(operations), self._transport.retries)
        return await self._transport.run(plan)

    async def list(
        self,
        did: str,
        *,
        kind: str | None = None,
        metadata: Mapping[str, str] | None = None,
        contents: bool = True,
        page_size: int | None = None,
    ) -> AsyncIterator[Record]:
        """The records that are there; with ``metadata``, those that have these members."""
        async for page in record_feed(_path(did), kind, contents, page_size, metadata).on_async(
            self._transport, None
        ):
            for record in page.items:
                if not record.deleted:
                    yield record

    def follow(
        self,
        did: str,
        *,
        since: str | None = None,
        kind: str | None = None,
        contents: bool = True,
        page_size: int | None = None,
    ) -> AsyncIterator[RecordFeed]:
        """What has changed, deletions included, in pages, until there is no more for now."""
        return record_feed(_path(did), kind, contents, page_size).on_async(self._transport, since)

    async def usage(self, did: str) -> RecordUsage:
        """What an owner has, and may have."""
        return await self._transport.run(record_usage(did, self._transport.retries))

    async def delete_all(self, did: str) -> int:
        """Removes all records of an owner; says how many."""
        return await self._transport.run(delete_records(did, self._transport.retries))

    def inactive(
        self, inactive_days: int, *, page_size: int | None = None
    ) -> AsyncIterator[InactiveOwner]:
        """Owners whose records were neither read nor written for so many days."""
        return _inactive(inactive_days, page_size).on_async(self._transport)

    async def delete_inactive(self, inactive_days: int) -> InactiveRemoved:
        """Removes the records of these owners."""
        plan = delete_inactive(inactive_days, self._transport.retries)
        return await self._transport.run(plan)
