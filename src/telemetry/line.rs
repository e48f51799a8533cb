//! The two forms of a log line. Each ends with the ids of the requests that the work was done for.

use std::cell::Cell;
use std::fmt;
use std::str;

use serde::Serializer as _;
use serde::ser::SerializeMap;
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::origin::{Origin, RequestId};

thread_local! {
    /// Room for a line, which each thread keeps.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A line of text for people, as `tracing_subscriber` writes it.
pub(super) struct Human(pub(super) Format);

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let origin = Origin::current();
        if origin == Origin::Service {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(line.strip_suffix('\n').unwrap_or(&line))?;
        match origin {
            Origin::Service => {}
            Origin::Request(id) => write!(writer, " request_id={}", id.as_str())?,
            Origin::Requests { count, named } => {
                let named: Vec<_> = named.iter().map(RequestId::as_str).collect();
                write!(writer, " requests={count} request_ids={}", named.join(","))?;
            }
        }
        writer.write_char('\n')
    }
}

/// A line that is a JSON object, as `tracing_subscriber` writes it, without spans.
///
/// Each request has such a line. `tracing_subscriber` takes 1.3 µs for one, because it passes each
/// quote and each comma on by itself. This takes 0.5 µs.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // A value may log while it is written, and finds another room.
        let mut line = LINE.take();
        line.clear();
        let written = object(&mut line, event, &Origin::current()).map_err(|_| fmt::Error);
        line.push(b'\n');
        let written =
            written.and_then(|()| writer.write_str(str::from_utf8(&line).map_err(|_| fmt::Error)?));
        LINE.set(line);
        written
    }
}

fn object(line: &mut Vec<u8>, event: &Event<'_>, origin: &Origin) -> serde_json::Result<()> {
    // An event of the crate `log` has its level and its target among its fields.
    let normalized = event.normalized_metadata();
    let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
    let mut json = serde_json::Serializer::new(line);
    let mut fields = json.serialize_map(None)?;
    fields.serialize_entry("timestamp", &now())?;
    fields.serialize_entry("level", metadata.level().as_str())?;
    let mut visitor = SerdeMapVisitor::new(fields);
    event.record(&mut visitor);
    let mut fields = visitor.take_serializer()?;
    fields.serialize_entry("target", metadata.target())?;
    match origin {
        Origin::Service => {}
        Origin::Request(id) => fields.serialize_entry("request_id", id.as_str())?,
        Origin::Requests { count, named } => {
            let named: Vec<_> = named.iter().map(RequestId::as_str).collect();
            fields.serialize_entry("requests", count)?;
            fields.serialize_entry("request_ids", &named)?;
        }
    }
    fields.end()
}

/// In UTC, as RFC 3339 has it.
fn now() -> String {
    let mut time = String::with_capacity("2026-01-01T00:00:00.000000Z".len());
    // A string takes all that is written.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _};
    use std::sync::Mutex;

    use serde_json::{Value, json};
    use tracing_log::log;
    use tracing_subscriber::Registry;
    use tracing_subscriber::fmt::{format, layer};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What is logged, in this form, by work that is done for these requests.
    async fn logged<F>(form: F, requests: &[&str], work: impl FnOnce()) -> String
    where
        F: FormatEvent<Registry, format::DefaultFields> + Send + Sync + 'static,
    {
        let origins: Vec<_> =
            requests.iter().map(|id| Origin::Request(RequestId::parse(id).unwrap())).collect();
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = layer().event_format(form).with_writer(Mutex::new(writer));
        let log = tracing_subscriber::registry().with(lines);
        let work = async { tracing::subscriber::with_default(log, work) };
        Origin::together(origins.iter()).run(work).await;
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    async fn object_of(requests: &[&str], work: impl FnOnce()) -> Value {
        let text = logged(Json, requests, work).await;
        assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
        let mut line: Value = serde_json::from_str(&text).unwrap();
        let time = line["timestamp"].take();
        let time = time.as_str().unwrap();
        assert!(time.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{time}");
        line.as_object_mut().unwrap().remove("timestamp");
        line
    }

    #[tokio::test]
    async fn a_line_ends_with_its_requests() {
        for (requests, human, json) in [
            (&[][..], "", json!({})),
            (&["a"], " request_id=a", json!({"request_id": "a"})),
            (
                &["a", "b"],
                " requests=2 request_ids=a,b",
                json!({"requests": 2, "request_ids": ["a", "b"]}),
            ),
        ] {
            let form = Human(format::format().with_ansi(false));
            let line = logged(form, requests, || tracing::info!("done")).await;
            assert!(line.ends_with(&format!(": done{human}\n")), "{line}");

            let mut expected = json!({
                "level": "INFO",
                "message": "done",
                "target": "onceguard::telemetry::line::tests",
            });
            expected.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
            assert_eq!(object_of(requests, || tracing::info!("done")).await, expected);
        }
    }

    #[tokio::test]
    async fn fields_have_their_types_and_are_escaped() {
        let line = object_of(&[], || {
            let none: Option<&str> = None;
            tracing::warn!(target: "t", a = 1_u64, b = true, c = -0.5, d = "\"\n\u{1}ä", e = none,
                f = %"shown", g = ?Some("debugged"), "all");
        });
        let expected = json!({
            "level": "WARN", "target": "t", "message": "all", "a": 1, "b": true, "c": -0.5,
            "d": "\"\n\u{1}ä", "f": "shown", "g": "Some(\"debugged\")",
        });
        assert_eq!(line.await, expected);
    }

    /// As actix' server does.
    #[tokio::test]
    async fn an_event_of_the_crate_log_has_its_own_level_and_target() {
        let line = object_of(&["a"], || {
            let mut record = log::Record::builder();
            record.level(log::Level::Warn).target("actix_server::builder");
            let record = record.args(format_args!("starting")).build();
            tracing_log::format_trace(&record).unwrap();
        });
        let line = line.await;
        assert_eq!(
            [&line["level"], &line["target"], &line["message"], &line["request_id"]],
            ["WARN", "actix_server::builder", "starting", "a"],
        );
    }
}
