//! `[signatures.profiles.<name>]`: what signed requests must look like. The two shipped profiles
//! are defaults, as other keys have. A table of another name in a file is a new profile.

use chrono::Duration;

use super::reader::{Given, NAMES, Reader, Show, is_name};
use crate::signatures::{Algorithm, Component, Coverage, Profile};

const SECTION: &str = "signatures.profiles";
const MAX_TAG_LEN: usize = 255;
/// A nonce must be kept for the whole window, and for the skew after it.
const MAX_WINDOW_SECONDS: i64 = 86_400;
const MAX_SKEW_SECONDS: i64 = 3600;

/// `[signatures]`.
#[derive(Debug, Clone)]
pub struct Signatures {
    /// Of different names.
    pub profiles: Vec<Profile>,
}

impl Signatures {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut defaults = vec![Profile::onceguard(), Profile::sage()];
        for name in reader.tables_in_file(SECTION) {
            if defaults.iter().all(|shipped| shipped.name != name) {
                defaults.push(Profile { name, tag: None, ..Profile::onceguard() });
            }
        }
        let profiles = defaults.into_iter().map(|default| read_profile(reader, default)).collect();
        Self { profiles }
    }

    /// How far ahead a signer's clock may be: the most that any profile allows.
    #[must_use]
    pub fn skew(&self) -> Duration {
        self.profiles.iter().map(|profile| profile.skew).max().unwrap_or_default()
    }
}

fn read_profile(reader: &mut Reader, default: Profile) -> Profile {
    let Profile { name, .. } = default;
    let key = |key: &str| format!("{SECTION}.{name}.{key}");
    let seconds = Duration::num_seconds;

    let tag = read_tag(reader, &key("tag"), default.tag);
    let algorithms = read_algorithms(reader, &key("algorithms"), default.algorithms);
    let alg_required = reader.boolean(&key("alg_required"), default.alg_required);
    let min_nonce_len = reader.number(&key("min_nonce_length"), default.min_nonce_len, 1..=255);
    let lifetime = reader.number(
        &key("default_lifetime_seconds"),
        default.default_lifetime.as_ref().map_or(0, seconds),
        0..=MAX_WINDOW_SECONDS,
    );
    let max_window = reader.number(
        &key("max_window_seconds"),
        seconds(&default.max_window),
        1..=MAX_WINDOW_SECONDS,
    );
    let skew = reader.number(&key("skew_seconds"), seconds(&default.skew), 0..=MAX_SKEW_SECONDS);
    let coverage = read_coverage(reader, &key("cover"), &default.coverage);

    if !is_name(&name) {
        reader.refuse(&format!("{SECTION}.{name}"), NAMES);
    }
    if lifetime > max_window {
        let message = format!("must not be more than max_window_seconds, which is {max_window}");
        reader.refuse(&key("default_lifetime_seconds"), message);
    }
    if alg_required && algorithms.iter().any(|algorithm| algorithm.parameter().is_none()) {
        reader.refuse(
            &key("alg_required"),
            "must be false where algorithms has ES256K, whose signatures cannot state alg",
        );
    }
    Profile {
        tag,
        algorithms,
        alg_required,
        min_nonce_len,
        default_lifetime: (lifetime > 0).then(|| Duration::seconds(lifetime)),
        max_window: Duration::seconds(max_window),
        skew: Duration::seconds(skew),
        coverage,
        name,
    }
}

/// No tag is shown as it can be written: `""`.
fn read_tag(reader: &mut Reader, key: &str, default: Option<String>) -> Option<String> {
    let parse = |given: &Given| match given.text() {
        Some("") => Ok(None),
        // The characters that a string in a structured field can have.
        Some(tag)
            if tag.len() <= MAX_TAG_LEN && tag.bytes().all(|b| (b' '..=b'~').contains(&b)) =>
        {
            Ok(Some(tag.to_owned()))
        }
        _ => Err(format!(
            "must be up to {MAX_TAG_LEN} characters of printable ASCII, or \"\" for none"
        )),
    };
    let shown = |tag: &Option<String>| tag.as_deref().unwrap_or_default().into();
    reader.value(key, Show::Plain, default, parse, shown)
}

fn read_algorithms(reader: &mut Reader, key: &str, default: Vec<Algorithm>) -> Vec<Algorithm> {
    let named = |name: &str| Algorithm::ALL.into_iter().find(|known| known.as_str() == name);
    // A key is used with one algorithm, so a second one for the same type would never be used.
    let one_per_key_type = |algorithms: &Vec<Algorithm>| {
        let types: Vec<_> = algorithms.iter().map(|algorithm| algorithm.key_type()).collect();
        !types.is_empty() && all_differ(&types)
    };
    let parse = |given: &Given| {
        given
            .texts()
            .and_then(|names| names.into_iter().map(named).collect::<Option<Vec<_>>>())
            .filter(one_per_key_type)
            .ok_or_else(|| {
                let known = Algorithm::ALL.map(Algorithm::as_str).join(", ");
                format!("must be a list of {known}: at least one, and one for each type of key")
            })
    };
    let shown = |algorithms: &Vec<Algorithm>| {
        algorithms.iter().map(|algorithm| algorithm.as_str()).collect::<Vec<_>>().into()
    };
    reader.value(key, Show::Plain, default, parse, shown)
}

fn read_coverage(reader: &mut Reader, key: &str, default: &Coverage) -> Coverage {
    let parse = |given: &Given| {
        let wrong = "must be a list of different components, such as @method or content-type";
        let names = given.texts().ok_or(wrong)?;
        if names.is_empty() || !all_differ(&names) {
            return Err(wrong.to_owned());
        }
        let components = names.into_iter().map(Component::named).collect::<Result<Vec<_>, _>>();
        components.map_err(|error| format!("{wrong}: {error}"))
    };
    let shown = |components: &Vec<Component>| {
        components.iter().map(ToString::to_string).collect::<Vec<_>>().into()
    };
    let default = default.first_choice().cloned().collect();
    Coverage::of(reader.value(key, Show::Plain, default, parse, shown))
}

fn all_differ<T: PartialEq>(items: &[T]) -> bool {
    items.iter().enumerate().all(|(at, item)| items.iter().take(at).all(|earlier| earlier != item))
}
