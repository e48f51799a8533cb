//! What is wrong with sealed records, as `onceguard doctor` says it. Nothing that the service does
//! leaves this behind; a hand that edits rows may.

use crate::storage::Finding;

/// Rows with one fault, in types that both databases' drivers have.
#[derive(Debug)]
pub(crate) struct Faulty {
    /// One of the words below.
    pub(crate) fault: String,
    pub(crate) count: i64,
    /// Which of them comes first.
    pub(crate) example: String,
}

impl Faulty {
    /// `None` when the fault is none of this binary's.
    pub(crate) fn finding(&self) -> Option<Finding> {
        let Self { fault, count, example } = self;
        let what = match fault.as_str() {
            "no_content" => format!(
                "{count} records have no content, first {example}; restore a backup, or have their \
                 owners write them again"
            ),
            "other_size" => format!(
                "{count} records have content of another size than theirs, first {example}; restore \
                 a backup, or have their owners write them again"
            ),
            "no_record" => format!(
                "{count} contents belong to no record, or to a deleted one, first {example}; delete \
                 them from record_blobs"
            ),
            "data_of_deleted" => format!(
                "{count} deleted records still have data, first {example}; clear their size, iv, \
                 checksum, client_time, metadata and expires_at"
            ),
            "sequence_ahead" => format!(
                "{count} records have a sequence above their owner's, first {example}; raise the \
                 sequence in record_owners to the highest of the owner's records"
            ),
            "usage" => format!(
                "{count} owners have other numbers of records or bytes than are counted for them, \
                 first {example}; correct records and bytes in record_owners"
            ),
            "agents" => format!(
                "record_shares counts {example} for all agents together, which is not what they \
                 have; correct it"
            ),
            _ => return None,
        };
        Some(Finding::fatal(what))
    }
}
