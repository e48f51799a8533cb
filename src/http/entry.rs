//! What a route asks of a call before its handler gets it.

use actix_web::{HttpRequest, web};
use futures_util::future::LocalBoxFuture;

use super::State;
use super::auth::Access;
use super::body::{MAX_BODY, MAX_EVENTS_BODY, MAX_RECORDS_BODY};
use super::caller::Caller;
use super::problem::Problem;

/// What a route asks of a call before its handler gets it.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) access: Access,
    /// The most bytes of its body.
    pub(super) max_body: usize,
    /// Asked once the caller may make the call, before its body is read.
    pub(super) before_body: Option<BeforeBody>,
}

/// Why a call would be refused with any body.
pub(super) type BeforeBody =
    fn(HttpRequest, web::Data<State>) -> LocalBoxFuture<'static, Result<(), Problem>>;

impl<A: Into<Access>> From<A> for Entry {
    fn from(access: A) -> Self {
        Self { access: access.into(), max_body: MAX_BODY, before_body: None }
    }
}

impl Entry {
    /// For a call that carries records.
    pub(super) fn of_records(access: Access) -> Self {
        Self { max_body: MAX_RECORDS_BODY, ..access.into() }
    }

    /// For a call that publishes events.
    pub(super) fn of_events(access: impl Into<Access>) -> Self {
        Self { max_body: MAX_EVENTS_BODY, ..access.into().into() }
    }

    pub(super) const fn asking(self, before_body: BeforeBody) -> Self {
        Self { before_body: Some(before_body), ..self }
    }

    /// Whether the call may send its body.
    pub(super) async fn let_in(
        self,
        caller: &Caller,
        request: &HttpRequest,
        state: &web::Data<State>,
    ) -> Result<(), Problem> {
        self.access.admits(caller, request)?;
        match self.before_body {
            Some(ask) => ask(request.clone(), state.clone()).await,
            None => Ok(()),
        }
    }
}
