//! A request as a `curl` line to paste into a shell. `curl` must send what was signed, byte for
//! byte, so the line turns off every change that `curl` would make.

use crate::signatures::Target;

/// `body` is the file that holds the body, `-` for standard input.
pub(super) fn line(
    method: &str,
    target: &Target<'_>,
    headers: &[(String, String)],
    body: Option<&str>,
) -> String {
    let mut words = vec!["curl".to_owned(), "--path-as-is".to_owned(), "--globoff".to_owned()];
    let mut option = |name: &str, value: Option<String>| {
        words.push(name.to_owned());
        words.extend(value.map(|value| quoted(&value)));
    };
    if method == "HEAD" {
        // With `--request HEAD`, curl would wait for a body that never comes.
        option("--head", None);
    } else {
        option("--request", Some(method.to_owned()));
    }
    if target.authority() != target.normalized_authority() {
        // curl would leave out a default port, and write the host in lower case.
        option("--header", Some(format!("Host: {}", target.authority())));
    }
    for (name, value) in headers {
        // curl takes `Name:` as an order not to send the header.
        let header = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
        option("--header", Some(header));
    }
    if let Some(file) = body {
        option("--data-binary", Some(format!("@{file}")));
    }
    words.push(quoted(&target.to_string()));
    words.join(" ")
}

/// A text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
