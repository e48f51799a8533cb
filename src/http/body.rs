//! How a body is received: only from a caller whose credential was checked, up to a size, within
//! a time, and within the room that all bodies share. What is refused leaves the body unread.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::{Version, header};
use actix_web::web::{self, Bytes, BytesMut};
use futures_util::{StreamExt as _, poll};

use super::State;
use super::caller::Caller;
use super::connection;
use super::problem::Problem;
use crate::budget::Hold;
use crate::domain::Code;
use crate::services::ServiceError;

/// The most bytes of a body.
pub(super) const MAX_BODY: usize = 256 * 1024;
/// The most bytes of a body that carries records: the largest takes 1,333,336 as base64.
pub(super) const MAX_RECORDS_BODY: usize = 2 * 1024 * 1024;
/// The most bytes of a body that carries events: as much as one peer may send at a time, unless that is
/// configured.
pub(super) const MAX_EVENTS_BODY: usize = 16 * 1024 * 1024;
/// How long a body may take to arrive. A client that sends less than 9 kB a second (with records, 70
/// kB; with events, 560 kB) cannot send the largest. A slow body holds its room no longer than this.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a refused body is read on.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// A body that has not been read.
pub(super) struct Incoming {
    payload: web::Payload,
    /// `None` where only the end of the body shows it (RFC 9112, section 6.3).
    length: Option<usize>,
    /// Bytes still to come. Where a request asks for another protocol, actix takes all that
    /// follows for its body.
    left: usize,
    max: usize,
}

impl Incoming {
    /// # Errors
    /// `payload_too_large`, by what the head says.
    pub(super) fn of(
        request: &HttpRequest,
        payload: web::Payload,
        max: usize,
    ) -> Result<Self, Problem> {
        let headers = request.headers();
        let length = match headers.get(header::CONTENT_LENGTH) {
            Some(value) => value.to_str().ok().and_then(|text| text.parse().ok()),
            None if request.version() >= Version::HTTP_2 => None,
            None if headers.contains_key(header::TRANSFER_ENCODING) => None,
            None => Some(0),
        };
        if length.is_some_and(|length| length > max) {
            return Err(too_large(max));
        }
        Ok(Self { payload, length, left: length.unwrap_or(usize::MAX), max })
    }

    /// Whether the head says that there is a body, of at least one byte.
    pub(super) fn is_announced(&self) -> bool {
        self.length.is_some_and(|length| length > 0)
    }

    /// # Errors
    /// `payload_too_large`, `overloaded` when there is no room for it, `invalid_request` when it
    /// does not arrive.
    pub(super) async fn read(
        &mut self,
        request: &HttpRequest,
        caller: &Caller,
        state: &State,
    ) -> Result<Bytes, Problem> {
        let whole = self.collect(|room| {
            let (standing, accounts) = caller.accounts(request, &state.config.server);
            state.bodies.take(room, standing, &accounts).map_err(|full| {
                state.metrics.refused("body_bytes", full.reason());
                Problem::from(ServiceError::Overloaded)
            })
        });
        tokio::time::timeout(BODY_TIMEOUT, whole).await.unwrap_or_else(|_| {
            let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(Problem::new(Code::InvalidRequest, detail))
        })
    }

    /// Throws away what comes of a refused request's body for a moment. In HTTP/2 a stream that
    /// closes before its body ended looks like an error to some clients, whatever the answer was.
    /// (HTTP/1.1 connections are read on after the answer, by actix.)
    pub(super) async fn discard(mut self, request: &HttpRequest) {
        if request.version() < Version::HTTP_2 {
            return;
        }
        connection::refuse(request);
        let rest = async {
            let mut length = 0;
            while let Some(Ok(piece)) = self.payload.next().await {
                length += piece.len();
                if length > MAX_BODY {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(DISCARD_TIMEOUT, rest).await;
    }

    async fn next(&mut self) -> Option<Result<Bytes, PayloadError>> {
        if self.left == 0 {
            return None;
        }
        let mut piece = self.payload.next().await?;
        if let Ok(bytes) = &mut piece {
            bytes.truncate(self.left);
            self.left -= bytes.len();
        }
        Some(piece)
    }

    async fn collect(
        &mut self,
        take_room: impl FnOnce(u64) -> Result<Hold, Problem>,
    ) -> Result<Bytes, Problem> {
        let max = self.max;
        let Some(first) = self.next().await else { return Ok(Bytes::new()) };
        let first = first.map_err(|error| unreadable(&error))?;
        // Most bodies come in one piece, which is neither copied nor counted.
        let second = match poll!(pin!(self.next())) {
            Poll::Ready(None) if first.len() > max => return Err(too_large(max)),
            Poll::Ready(None) => return Ok(first),
            Poll::Ready(Some(second)) => Some(second),
            Poll::Pending => None,
        };
        let room = self.length.unwrap_or(max);
        let _hold = take_room(room as u64)?;
        let mut body = BytesMut::with_capacity(room);
        add(&mut body, &first, max)?;
        drop(first);
        let mut next = match second {
            Some(second) => Some(second),
            None => self.next().await,
        };
        while let Some(piece) = next {
            add(&mut body, &piece.map_err(|error| unreadable(&error))?, max)?;
            next = self.next().await;
        }
        Ok(body.freeze())
    }
}

fn add(body: &mut BytesMut, piece: &[u8], max: usize) -> Result<(), Problem> {
    if body.len() + piece.len() > max {
        return Err(too_large(max));
    }
    body.extend_from_slice(piece);
    Ok(())
}

fn too_large(max: usize) -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("the body may have {max} bytes"))
}

fn unreadable(error: &PayloadError) -> Problem {
    Problem::new(Code::InvalidRequest, format!("the body could not be read: {error}"))
}
