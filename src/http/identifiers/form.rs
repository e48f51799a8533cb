//! In which form a client would have its answer: the whole result or only the document, as
//! `Accept` says (RFC 9110, section 12.5.1). `application/json` and `application/ld+json` ask for
//! the document, as at DIF's Universal Resolver.

use actix_web::HttpRequest;
use actix_web::http::header::{Accept, Header as _, Quality, QualityItem};
use actix_web::mime::Mime;

/// The profile that made JSON-LD a result, before results had a media type of their own.
const PROFILE: &str = "https://w3id.org/did-resolution";

/// A form of answer, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Result,
    /// As it was before the specification's errors were problems (RFC 9457).
    LegacyResult,
    Document,
    JsonLdDocument,
    JsonDocument,
}

impl Form {
    /// The one that we prefer comes first.
    const ALL: [Self; 5] = [
        Self::Result,
        Self::LegacyResult,
        Self::Document,
        Self::JsonLdDocument,
        Self::JsonDocument,
    ];

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Result => "application/did-resolution",
            Self::LegacyResult => "application/ld+json;profile=\"https://w3id.org/did-resolution\"",
            Self::Document => "application/did",
            Self::JsonLdDocument => "application/did+ld+json",
            Self::JsonDocument => "application/did+json",
        }
    }

    /// The form that a request asks for; `None` when it asks for none of ours. Without `Accept`
    /// that is the whole result.
    pub(super) fn asked_for(request: &HttpRequest) -> Option<Self> {
        let Accept(mut ranges) = Accept::parse(request).unwrap_or_else(|_| Accept::star());
        if ranges.is_empty() {
            ranges = Accept::star().0;
        }
        let weighed = Self::ALL.into_iter().rev().filter_map(|form| {
            let (specificity, quality) = form.weight(&ranges)?;
            (quality > Quality::ZERO).then_some((form, quality, specificity))
        });
        weighed.max_by_key(|&(_, quality, specificity)| (quality, specificity)).map(|best| best.0)
    }

    /// What the most specific range that has this form says of it.
    fn weight(self, ranges: &[QualityItem<Mime>]) -> Option<(u8, Quality)> {
        let matching = ranges
            .iter()
            .filter_map(|range| self.specificity_in(&range.item).map(|s| (s, range.quality)));
        matching.max_by_key(|&(specificity, _)| specificity)
    }

    /// How specific a range is that has this form.
    fn specificity_in(self, range: &Mime) -> Option<u8> {
        let essence = range.essence_str();
        match (essence, self) {
            ("*/*", _) => Some(0),
            ("application/*", _) => Some(1),
            ("application/json", Self::JsonDocument) => Some(2),
            ("application/ld+json", Self::JsonLdDocument) => {
                range.get_param("profile").is_none().then_some(2)
            }
            ("application/ld+json", Self::LegacyResult) => {
                let profiles = range.get_param("profile")?;
                profiles.as_str().split_ascii_whitespace().any(|one| one == PROFILE).then_some(3)
            }
            _ => (essence == self.media_type()).then_some(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn asked_for(accept: &[&str]) -> Option<Form> {
        let request =
            accept.iter().fold(TestRequest::get(), |r, &value| r.append_header(("accept", value)));
        Form::asked_for(&request.to_http_request())
    }

    #[test]
    fn each_form_is_given_to_who_asks_for_it() {
        for form in Form::ALL {
            assert_eq!(asked_for(&[form.media_type()]), Some(form));
            let capitals = form.media_type().replace("application", "APPLICATION");
            assert_eq!(asked_for(&[&capitals]), Some(form));
        }
    }

    #[test]
    fn the_whole_result_is_given_to_who_does_not_mind() {
        for accept in [&[][..], &[""], &["*/*"], &["application/*"], &["text/html, */*;q=0.1"]] {
            assert_eq!(asked_for(accept), Some(Form::Result), "{accept:?}");
        }
    }

    #[test]
    fn weights_are_heeded() {
        let legacy = Form::LegacyResult.media_type();
        for (accept, form) in [
            (&["application/did, application/did-resolution"][..], Form::Result),
            (&["application/did", "application/did-resolution"], Form::Result),
            (&["application/did-resolution;q=0.5, application/did"], Form::Document),
            (&["application/did+json;q=0.9, application/did+ld+json;q=0.8"], Form::JsonDocument),
            // The more specific one, where the weights are the same.
            (&["application/did+ld+json, */*"], Form::JsonLdDocument),
            (&["application/did+ld+json;q=0.1, */*"], Form::Result),
            (&["application/did-resolution;q=0, */*"], Form::LegacyResult),
            (&["application/did;charset=utf-8"], Form::Document),
            (&["application/json"], Form::JsonDocument),
            (&["application/json;charset=utf-8"], Form::JsonDocument),
            (&["application/ld+json"], Form::JsonLdDocument),
            // As HTTP libraries send it of their own accord.
            (&["application/json, text/plain, */*"], Form::JsonDocument),
            (&["application/json;q=0.5, */*"], Form::Result),
            (&["application/ld+json, application/json"], Form::JsonLdDocument),
            (&["application/json, application/did-resolution"], Form::Result),
            (&["application/json", legacy], Form::LegacyResult),
            (&[legacy, "application/did+ld+json"], Form::LegacyResult),
            (
                &[
                    "application/ld+json;profile=\"https://a.example https://w3id.org/did-resolution\"",
                ],
                Form::LegacyResult,
            ),
        ] {
            assert_eq!(asked_for(accept), Some(form), "{accept:?}");
        }
    }

    #[test]
    fn who_asks_for_something_else_gets_nothing() {
        for accept in [
            "application/ld+json;profile=\"https://www.w3.org/ns/json-ld#compacted\"",
            "text/html",
            "text/*",
            "*/*;q=0",
            "application/did;q=0",
            "application/json;q=0",
            // Both name one form, and the more specific one counts.
            "application/json, application/did+json;q=0",
            "application/cbor",
            "application/did-url-dereferencing",
        ] {
            assert_eq!(asked_for(&[accept]), None, "{accept}");
        }
    }
}
