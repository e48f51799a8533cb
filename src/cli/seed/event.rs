//! The events of a seed.

use std::fmt::Display;

use serde_json::json;

use crate::domain::{Actor, NewEvent, OwnType};

pub(super) fn event(kind: OwnType, subject: impl Display) -> NewEvent {
    NewEvent::own(kind, Actor::Operator, subject, &json!({ "sample": true }))
}
