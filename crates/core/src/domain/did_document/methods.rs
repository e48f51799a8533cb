//! Finds a document's verification methods, wherever they are (DID Core 1.0, section 5.2.2), and
//! which of them `authentication` names. One that cannot be used never spoils another.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::key;
use super::method::{
    ASSERTION, AUTHENTICATION, DELEGATION, INVOCATION, KEY_AGREEMENT, MAX_METHODS, UnusableMethod,
    VERIFICATION_METHOD, VerificationMethod,
};
use crate::domain::{Did, DidUrl};

/// Where methods are: a relationship may embed one instead of naming it (section 5.3), and
/// another may name that.
const LISTS: [&str; 6] =
    [VERIFICATION_METHOD, AUTHENTICATION, ASSERTION, KEY_AGREEMENT, INVOCATION, DELEGATION];

/// Why something among the methods cannot be used.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("it is no list")]
    NotAList,
    #[error("it is no verification method, with an id and a type")]
    NotAMethod,
    #[error("it names no key of the DID's own")]
    OfOthers,
    #[error("the document has no verification method of this id")]
    Missing,
    #[error("the document has two verification methods of this id")]
    Duplicate,
    #[error("its controller is not the DID")]
    Controller,
    /// Controlled Identifiers 1.0, section 2.2: also when the time that it states is still to come.
    #[error("the document says that it is revoked")]
    Revoked,
    #[error("more than {max} keys of a document are not read", max = MAX_METHODS)]
    TooMany,
    #[error(transparent)]
    Key(#[from] key::Unusable),
}

/// A place in the document.
#[derive(Clone, Copy)]
struct Place {
    list: &'static str,
    /// `None` for the list itself.
    index: Option<usize>,
}

struct Method<'a> {
    place: Place,
    id: String,
    json: &'a Map<String, Value>,
    authentication: bool,
    duplicate: bool,
}

/// The document's usable keys, in its order, and what else is among them.
pub(super) fn read(
    did: &Did,
    json: &Map<String, Value>,
) -> (Vec<VerificationMethod>, Vec<UnusableMethod>) {
    let mut unusable = Vec::new();
    let methods = find(did, json, &mut unusable);
    let mut places: Vec<usize> = (0..methods.len()).collect();
    // Those that may sign are read before the bound is reached.
    places.sort_by_key(|&place| methods.get(place).is_none_or(|method| !method.authentication));
    let mut usable = Vec::new();
    let mut left = MAX_METHODS;
    for place in places {
        let Some(method) = methods.get(place) else { continue };
        match read_key(did, method, &mut left) {
            Ok(key) => {
                let (id, authentication) = (method.id.clone(), method.authentication);
                usable.push((place, VerificationMethod { id, key, authentication }));
            }
            Err(reason) => unusable.push(method.place.unusable(Some(&method.id), &reason)),
        }
    }
    usable.sort_by_key(|&(place, _)| place);
    unusable.truncate(MAX_METHODS);
    (usable.into_iter().map(|(_, method)| method).collect(), unusable)
}

/// The DID's own methods, each once, in the document's order.
fn find<'a>(
    did: &Did,
    json: &'a Map<String, Value>,
    unusable: &mut Vec<UnusableMethod>,
) -> Vec<Method<'a>> {
    let mut methods: Vec<Method<'a>> = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    let mut may_sign: Vec<(Place, String)> = Vec::new();
    for (place, entry) in entries(json, unusable) {
        let (id, method) = match entry {
            // The methods that a relationship names are in another place.
            Value::String(id) if place.list != VERIFICATION_METHOD => (Some(id.as_str()), None),
            Value::Object(method) if method.get("type").is_some_and(Value::is_string) => {
                (method.get("id").and_then(Value::as_str), Some(method))
            }
            _ => (None, None),
        };
        let Some(id) = id else {
            unusable.push(place.unusable(None, &Reason::NotAMethod));
            continue;
        };
        match (own_id(did, id), method) {
            (Some(id), Some(json)) => {
                let authentication = place.list == AUTHENTICATION;
                let known = by_id.get(&id).and_then(|&at| methods.get_mut(at));
                match known {
                    // Several relationships may embed one method.
                    Some(known) if known.json == json && known.place.list != place.list => {
                        known.authentication |= authentication;
                    }
                    Some(known) => known.duplicate = true,
                    None => {
                        by_id.insert(id.clone(), methods.len());
                        methods.push(Method { place, id, json, authentication, duplicate: false });
                    }
                }
            }
            (Some(id), None) if place.list == AUTHENTICATION => may_sign.push((place, id)),
            (None, _) if place.list == AUTHENTICATION || method.is_some() => {
                unusable.push(place.unusable(None, &Reason::OfOthers));
            }
            // What else a key is for does not matter here.
            (_, None) | (None, Some(_)) => {}
        }
    }
    let mut missing = HashSet::new();
    for (place, id) in may_sign {
        match by_id.get(&id).and_then(|&at| methods.get_mut(at)) {
            Some(method) => method.authentication = true,
            None if missing.insert(id.clone()) => {
                unusable.push(place.unusable(Some(&id), &Reason::Missing));
            }
            None => {}
        }
    }
    methods
}

/// All that is in the lists.
fn entries<'a>(
    json: &'a Map<String, Value>,
    unusable: &mut Vec<UnusableMethod>,
) -> Vec<(Place, &'a Value)> {
    let mut entries = Vec::new();
    for list in LISTS {
        match json.get(list) {
            None => {}
            Some(Value::Array(values)) => {
                entries.extend(values.iter().enumerate().map(|(index, value)| {
                    let place = Place { list, index: Some(index) };
                    (place, value)
                }));
            }
            Some(_) => {
                let place = Place { list, index: None };
                unusable.push(place.unusable(None, &Reason::NotAList));
            }
        }
    }
    entries
}

/// Reads a method's key, unless `left` keys have been read before it.
fn read_key(
    did: &Did,
    method: &Method<'_>,
    left: &mut usize,
) -> Result<crate::domain::PublicKey, Reason> {
    if method.duplicate {
        return Err(Reason::Duplicate);
    }
    if method.json.get("controller").and_then(Value::as_str) != Some(did.as_str()) {
        return Err(Reason::Controller);
    }
    if method.json.contains_key("revoked") {
        return Err(Reason::Revoked);
    }
    let material = key::find(method.json)?;
    // To read one takes arithmetic on its curve.
    *left = left.checked_sub(1).ok_or(Reason::TooMany)?;
    Ok(material.read()?)
}

impl Place {
    fn unusable(self, id: Option<&str>, reason: &Reason) -> UnusableMethod {
        let list = self.list;
        let pointer = match self.index {
            Some(index) => format!("/{list}/{index}"),
            None => format!("/{list}"),
        };
        UnusableMethod { id: id.map(str::to_owned), pointer, reason: reason.to_string() }
    }
}

/// The absolute form of an id that names a key of this DID (DID Core 1.0, section 3.2.2: a
/// relative one is resolved against the DID).
fn own_id(did: &Did, id: &str) -> Option<String> {
    let id = if id.starts_with('#') { format!("{did}{id}") } else { id.to_owned() };
    let url = DidUrl::parse(&id).ok()?;
    (url.did() == did && url.fragment().is_some()).then_some(id)
}
