//! The closed sets of words, and free objects, as the OpenAPI document has them: named schemas, so
//! that generated clients have types for them. The words are those of the domain. Nothing here
//! exists in an answer; what is open, such as the codes of errors, stays a string.

use std::borrow::Cow;

use utoipa::openapi::schema::{AdditionalProperties, Schema};
use utoipa::openapi::{ObjectBuilder, RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::{
    DeliveryState as Sent, EndReason as Reason, InstanceState as Process, KeyType as Key,
    Outcome as Claimed, WebhookSignature as Signature, WebhookState as Hook,
};

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $words:expr;)+) => {
        $(
            $(#[$doc])*
            pub(super) enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let words = ObjectBuilder::new().schema_type(Type::String);
                    words.enum_values(Some($words)).into()
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }
            }
        )+
    };
}

words! {
    SessionState = ["active", "ended", "expired"];
    /// What lists of sessions are filtered by.
    SessionStateFilter = ["active", "ended", "expired", "all"];
    EndReason = Reason::ALL.map(Reason::as_str);
    KeyType = Key::ALL.map(Key::as_str);
    InstanceState = Process::ALL.map(Process::as_str);
    Backend = ["sqlite", "postgresql"];
    WebhookSignature = Signature::ALL.iter().map(|one| one.as_str());
    WebhookState = Hook::ALL.iter().map(|one| one.as_str());
    WebhookDeliveryState = Sent::ALL.iter().map(|one| one.as_str());
    /// To callers, a session that an agent has no part in does not exist.
    Outcome = Claimed::WORDS.into_iter().filter(|word| *word != "not_a_party");
}

/// An object whose members are its owner's.
pub(super) enum JsonObject {}

impl PartialSchema for JsonObject {
    fn schema() -> RefOr<Schema> {
        let any = AdditionalProperties::FreeForm(true);
        ObjectBuilder::new().additional_properties(Some(any)).into()
    }
}

impl ToSchema for JsonObject {
    fn name() -> Cow<'static, str> {
        "JsonObject".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of<T: PartialSchema>() -> Vec<String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        let words = schema["enum"].as_array().unwrap().iter();
        words.map(|word| word.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_words_are_those_that_answers_have() {
        assert_eq!(
            words_of::<EndReason>(),
            ["ended", "expired", "idle", "did_revoked", "restored"]
        );
        assert_eq!(words_of::<KeyType>(), ["Ed25519", "Secp256k1", "P256"]);
        assert_eq!(words_of::<Outcome>().len(), Claimed::WORDS.len() - 1);
    }
}
