"""The retry rule, without any I/O: a call is a plan that yields what to send, and is told what came
back. The sync and the async client run the same plans.

Only what is safe to repeat is repeated: reads; claims, verdicts and events (under their
``Idempotency-Key``); the opening of a session under an id that this client has made; and changes of
the one version of a record that they name. Nothing else is ever sent twice."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from . import errors, wire

T = TypeVar("T")

#: A longer wait than this is left to the caller, who finds it in ``retry_after``.
LONGEST_WAIT = 10.0
_FIRST_WAIT = 0.1


@dataclass(frozen=True)
class Request:
    """What to send."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Whether sending it twice does what sending it once does.
    repeatable: bool = False


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def retry_after(self) -> float | None:
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() else None

    def json(self) -> Any:  # noqa: ANN401 - JSON
        try:
            return json.loads(self.content)
        except ValueError:
            return None


@dataclass(frozen=True)
class Lost:
    """No answer came."""

    cause: httpx.RequestError


@dataclass(frozen=True)
class Pause:
    seconds: float


Step = Request | Pause
Outcome = Reply | Lost | None
#: Yields steps, is sent their outcomes (None for a pause), and returns what the caller gets.
Plan = Generator[Step, Outcome, T]


@dataclass(frozen=True)
class Exchanged:
    """An answer that is no error."""

    reply: Reply

    @property
    def body(self) -> Any:  # noqa: ANN401 - JSON
        body = self.reply.json()
        if body is None:
            raise errors.UnexpectedAnswer("The answer is not JSON.")
        return body

    def member(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """A member of the body, which is an object."""
        body = self.body
        if not isinstance(body, dict) or name not in body:
            raise errors.UnexpectedAnswer(f"The answer has no {name}.")
        return body[name]

    def read(self, kind: type[T], **more: Any) -> T:  # noqa: ANN401 - JSON
        """The body as a dataclass; ``more`` are fields that are not in it."""
        return read(kind, self.body, **more)


def read(kind: type[T], value: Any, **more: Any) -> T:  # noqa: ANN401 - JSON
    """A part of an answer as a dataclass."""
    try:
        return wire.read(kind, value, **more)
    except (TypeError, ValueError) as error:
        raise errors.UnexpectedAnswer(f"The answer cannot be read: {error}.") from error


def exchange(request: Request, retries: int) -> Plan[Exchanged]:
    """Sends a request, again where that is safe and worth it. An error answer is raised."""
    attempt = 0
    while True:
        attempt += 1
        outcome = yield request
        # 304 answers what was asked only for a change.
        if isinstance(outcome, Reply) and (200 <= outcome.status < 300 or outcome.status == 304):
            return Exchanged(outcome)
        assert outcome is not None, "a request has an outcome"  # noqa: S101
        wait = _wait(outcome, attempt)
        if not request.repeatable or attempt > retries or wait is None:
            raise _error(request, outcome, attempt)
        yield Pause(wait)


def _wait(outcome: Reply | Lost, attempt: int) -> float | None:
    """How long to wait before another try; None when there should be none."""
    backoff: float = _FIRST_WAIT * 2 ** (attempt - 1)
    if isinstance(outcome, Reply):
        if outcome.status not in (429, 502, 503):
            return None
        # Without Retry-After, waiting does not mend a 429.
        if outcome.status == 429 and outcome.retry_after is None:
            return None
        backoff = max(backoff, outcome.retry_after or 0.0)
        if backoff > LONGEST_WAIT:
            return None
    # Never earlier than asked, and not all at once.
    return backoff * (1 + random.random() / 2)  # noqa: S311 - not a secret


def _error(request: Request, outcome: Reply | Lost, attempts: int) -> errors.OnceguardError:
    error: errors.OnceguardError
    if isinstance(outcome, Lost):
        cause = outcome.cause
        what = str(cause) or type(cause).__name__
        error = errors.NoAnswer(f"No answer to {request.method} {request.path}: {what}.")
        error.__cause__ = cause
    else:
        body = outcome.json()
        problem = body if isinstance(body, dict) else {}
        error = errors.of_answer(outcome.status, problem, outcome.retry_after)
    error.idempotency_key = request.headers.get("Idempotency-Key")
    error.attempts = attempts
    return error


def _prepare(base_url: str, token: str | None, step: Request) -> dict[str, Any]:
    headers = {"Accept": "application/json", "User-Agent": "onceguard-python/0.1.0", **step.headers}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    content = None
    if step.body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(step.body, separators=(",", ":"), ensure_ascii=False).encode()
    return {
        "method": step.method,
        "url": base_url + step.path,
        "params": step.query or None,
        "headers": headers,
        "content": content,
        # A call is to this service: not to one that it names.
        "follow_redirects": False,
    }


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.headers, response.content)


@dataclass(frozen=True)
class Transport:
    """Runs plans on a blocking connection."""

    http: httpx.Client
    base_url: str
    token: str | None
    auth: httpx.Auth | None
    retries: int

    def run(self, plan: Plan[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = plan.send(outcome)
                outcome = self._take(step)
        except StopIteration as done:
            result: T = done.value
            return result

    def _take(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            prepared = _prepare(self.base_url, self.token, step)
            return _reply(self.http.request(**prepared, auth=self.auth))
        except httpx.RequestError as error:
            return Lost(error)


@dataclass(frozen=True)
class AsyncTransport:
    """Runs plans on an asyncio connection."""

    http: httpx.AsyncClient
    base_url: str
    token: str | None
    auth: httpx.Auth | None
    retries: int

    async def run(self, plan: Plan[T]) -> T:
        outcome: Outcome = None
        try:
            while True:
                step = plan.send(outcome)
                outcome = await self._take(step)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _take(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            prepared = _prepare(self.base_url, self.token, step)
            return _reply(await self.http.request(**prepared, auth=self.auth))
        except httpx.RequestError as error:
            return Lost(error)
