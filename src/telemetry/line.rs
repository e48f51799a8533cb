//! The form of a log line: as `tracing_subscriber` writes it, with the ids of the requests that the
//! work was done for at the end.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::origin::{Origin, RequestId};

/// Enough bytes for most lines.
const LINE: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Human,
    Json,
}

/// Writes what `inner` writes, and then the origin.
pub(super) struct WithOrigin<F> {
    pub(super) inner: F,
    pub(super) style: Style,
}

impl<S, N, F> FormatEvent<S, N> for WithOrigin<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let origin = Origin::current();
        if origin == Origin::Service {
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::with_capacity(LINE);
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let end = self.style.end();
        writer.write_str(line.strip_suffix(end).unwrap_or(&line))?;
        self.style.origin(&mut writer, &origin)?;
        writer.write_str(end)
    }
}

impl Style {
    const fn end(self) -> &'static str {
        match self {
            Self::Human => "\n",
            Self::Json => "}\n",
        }
    }

    /// No character of an id needs escaping.
    fn origin(self, writer: &mut Writer<'_>, origin: &Origin) -> fmt::Result {
        match (self, origin) {
            (_, Origin::Service) => Ok(()),
            (Self::Human, Origin::Request(id)) => write!(writer, " request_id={}", id.as_str()),
            (Self::Json, Origin::Request(id)) => {
                write!(writer, r#","request_id":"{}""#, id.as_str())
            }
            (Self::Human, Origin::Requests { count, named }) => {
                let named: Vec<_> = named.iter().map(RequestId::as_str).collect();
                write!(writer, " requests={count} request_ids={}", named.join(","))
            }
            (Self::Json, Origin::Requests { count, named }) => {
                let named: Vec<_> = named.iter().map(RequestId::as_str).collect();
                write!(writer, r#","requests":{count},"request_ids":["{}"]"#, named.join("\",\""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(style: Style, origins: &[&str]) -> String {
        let origins: Vec<_> =
            origins.iter().map(|id| Origin::Request(RequestId::parse(id).unwrap())).collect();
        let mut text = String::new();
        style.origin(&mut Writer::new(&mut text), &Origin::together(origins.iter())).unwrap();
        text
    }

    #[test]
    fn a_line_ends_with_its_requests() {
        assert_eq!(ending(Style::Human, &["a"]), " request_id=a");
        assert_eq!(ending(Style::Human, &["a", "b"]), " requests=2 request_ids=a,b");
        for (origins, expected) in [
            (&["a"][..], serde_json::json!({"message": "m", "request_id": "a"})),
            (
                &["a", "b"],
                serde_json::json!({"message": "m", "requests": 2, "request_ids": ["a", "b"]}),
            ),
        ] {
            let line =
                format!("{{\"message\":\"m\"{}{}", ending(Style::Json, origins), Style::Json.end());
            assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), expected);
        }
    }
}
