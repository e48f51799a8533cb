//! Every route: the operations, and the pages beside them.

use std::sync::LazyLock;

use actix_web::web::ServiceConfig;

use super::path::{Path, register};
use super::{openapi, operations, pages};

/// Registers the API.
pub fn api(config: &mut ServiceConfig) {
    register(config, table());
}

/// The beginning of a path that some route has, too, without parameters.
pub(super) fn known_part(path: &str) -> &str {
    static PATTERNS: LazyLock<Vec<&'static str>> =
        LazyLock::new(|| table().iter().map(|path| path.pattern).collect());
    let alike = PATTERNS.iter().map(|pattern| {
        let segments = pattern.split('/').zip(path.split('/'));
        segments.take_while(|(known, given)| known == given && !known.contains('{')).count()
    });
    first_segments(path, alike.max().unwrap_or_default())
}

/// The first segments of a path, with the slash after them.
pub(super) fn first_segments(path: &str, count: usize) -> &str {
    let length = path.split_inclusive('/').take(count).map(str::len).sum();
    path.get(..length).unwrap_or_default()
}

/// The operations come first: they are asked for most.
fn table() -> Vec<Path> {
    let mut table = operations::table();
    // Without a credential:
    table.extend([
        Path::new("/openapi.json").public(openapi::serve),
        Path::new("/docs").public(pages::docs::index),
        Path::new("/docs/{file:.*}").public(pages::docs::file),
        Path::new("/pages/{file}").public(pages::file),
        Path::new("/problems").public(pages::problems::index),
        Path::new("/problems/{code}").public(pages::problems::page),
    ]);
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::super::auth::{Access, Agents};
    use super::*;

    /// Paths that are for people, and those that are other names of a path.
    const UNDOCUMENTED: [&str; 6] = [
        "/docs",
        "/docs/{file:.*}",
        "/pages/{file}",
        "/problems",
        "/problems/{code}",
        "/v1/forward-auth/{tail:.*}",
    ];

    #[test]
    fn the_openapi_document_has_every_route_and_no_other_and_says_whom_it_is_for() {
        let security = |access: &Option<Access>| match access {
            None => Value::Null,
            Some(Access { scope, or: Some(or), .. }) => {
                json!([{ "token": [scope.as_str()] }, { "token": [or.as_str()] }])
            }
            Some(Access { scope, agents: Agents::None, .. }) => {
                json!([{ "token": [scope.as_str()] }])
            }
            Some(Access { scope, .. }) => {
                json!([{ "token": [scope.as_str()] }, { "signature": [] }])
            }
        };
        let mut routes = BTreeMap::new();
        for path in table().iter().filter(|path| !UNDOCUMENTED.contains(&path.pattern)) {
            for (method, access) in &path.methods {
                routes.insert(format!("{method} {}", path.pattern), security(access));
            }
        }
        assert_eq!(openapi::securities(), routes);
    }
}
