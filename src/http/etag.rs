//! Entity tags of sessions, `If-Match` and `If-None-Match` (RFC 9110, sections 8.8.3 and 13.1).

use crate::domain::Session;

/// `"<created_at in microseconds>-<version>"`: a session that takes over a freed id never has a
/// tag of the one before.
pub(super) fn etag(session: &Session) -> String {
    format!("\"{}-{}\"", session.created_at.timestamp_micros(), session.version)
}

/// What `If-Match` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// `*`: any session that exists.
    Any,
    /// One of these, quotes included. Weak tags are left out: they never match.
    Tags(Vec<String>),
}

impl IfMatch {
    /// # Errors
    /// When the text is neither `*` nor a list of entity tags.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const MALFORMED: &str = "must be * or a list of entity tags in double quotes";
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let mut rest = text.trim();
        let mut tags = Vec::new();
        while !rest.is_empty() {
            let (weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let opaque = quoted.strip_prefix('"').ok_or(MALFORMED)?;
            let (opaque, after) = opaque.split_once('"').ok_or(MALFORMED)?;
            if !weak {
                tags.push(format!("\"{opaque}\""));
            }
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => return Err(MALFORMED),
            };
        }
        if text.trim().is_empty() { Err(MALFORMED) } else { Ok(Self::Tags(tags)) }
    }

    /// The same for `If-None-Match`, which compares weakly: a weak tag matches, too.
    ///
    /// # Errors
    /// When the text is neither `*` nor a list of entity tags.
    pub(super) fn parse_weakly(text: &str) -> Result<Self, &'static str> {
        Self::parse(&text.replace("W/\"", "\""))
    }

    pub(super) fn has(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|one| one == tag),
        }
    }

    pub(super) fn matches(&self, session: &Session) -> bool {
        self.has(&etag(session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_star_one_tag_and_a_list() {
        assert_eq!(IfMatch::parse(" * "), Ok(IfMatch::Any));
        assert_eq!(IfMatch::parse("\"1-2\""), Ok(IfMatch::Tags(vec!["\"1-2\"".into()])));
        let list = IfMatch::parse("\"1-2\" , W/\"3-4\",\"a,b\"");
        assert_eq!(list, Ok(IfMatch::Tags(vec!["\"1-2\"".into(), "\"a,b\"".into()])));
        assert_eq!(IfMatch::parse("W/\"1-2\""), Ok(IfMatch::Tags(vec![])));
    }

    #[test]
    fn refuses_what_is_not_a_tag() {
        for text in ["", "1-2", "\"1-2", "\"1\" \"2\"", "*, \"1\"", "w/\"1\""] {
            assert!(IfMatch::parse(text).is_err(), "{text:?}");
        }
    }
}
