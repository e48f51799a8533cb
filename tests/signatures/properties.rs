//! Of whatever requests there are: what our signer signs, our verifier accepts; any one changed
//! byte of what is covered is refused; and no bytes make the reader of the fields panic.

use onceguard::domain::{DidUrl, KeyType};
use onceguard::signatures::{Algorithm, Profile, Signer, SigningKey, Target};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::messages::{Input, Message, key, key_id, now, signer, verifying};

fn a_signer() -> impl Strategy<Value = Signer> {
    let keys = prop::sample::select(vec![
        (KeyType::Ed25519, "onceguard"),
        (KeyType::Secp256k1, "onceguard"),
        (KeyType::P256, "onceguard"),
        (KeyType::Ed25519, "sage"),
        (KeyType::Secp256k1, "sage"),
    ]);
    (keys, any::<[u8; 32]>(), prop::option::of("[a-zA-Z0-9._~-]{1,20}")).prop_filter_map(
        "the scalar is out of range",
        |((key_type, profile), bytes, fragment)| {
            let key = SigningKey::from_bytes(key_type, &bytes).ok()?;
            let profile = match profile {
                "sage" => Profile::sage(),
                _ => Profile::onceguard(),
            };
            let mut url = key_id(&key).to_string();
            url.extend(fragment.map(|fragment| format!("#{fragment}")));
            let key_id = DidUrl::parse(&url).unwrap();
            Some(Signer { key, key_id, profile })
        },
    )
}

/// A request that a client could send: any path and query of visible ASCII, any content.
fn a_message() -> impl Strategy<Value = Message> {
    let url = (
        prop::sample::select(vec!["http", "https"]),
        "[a-zA-Z0-9.-]{1,20}(:[0-9]{1,4})?",
        "(/[!-\"$->@-~]{0,20})?",
        prop::option::of("[!-\"$-~]{0,30}"),
    )
        .prop_map(|(scheme, authority, path, query)| {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            format!("{scheme}://{authority}{path}{query}")
        });
    let session = prop::option::of("[!-~]([ -~]{0,20}[!-~])?");
    let content_type = "[!-~]([ -~]{0,20}[!-~])?";
    let method = "[A-Z!#$%&'*+.^_`|~0-9a-z-]{1,10}";
    (method, url, session, content_type, vec(any::<u8>(), 0..100)).prop_map(
        |(method, url, session, content_type, body)| {
            let mut message = Message { method, url, body: Some(body), headers: Vec::new() };
            if message.body.as_ref().is_some_and(|body| !body.is_empty()) {
                message = message.with("Content-Type", &content_type);
            }
            session.into_iter().fold(message, |message, id| message.with("X-Session-Id", &id))
        },
    )
}

/// How many parts of a message can be changed, and are covered when it is signed: method, URL,
/// body, and the value of each field.
fn parts(message: &Message) -> usize {
    3 + message.headers.len()
}

/// The message with one byte of a part set to `to`, or to another value when it is `to` already.
/// `None` where the part is empty or covers itself (`Signature`), or where no request comes out.
fn changed(
    message: &Message,
    part: usize,
    position: impl Fn(usize) -> usize,
    to: u8,
) -> Option<Message> {
    let mut message = message.clone();
    let edit = |bytes: &mut Vec<u8>| {
        let at = (!bytes.is_empty()).then(|| position(bytes.len()))?;
        let byte = bytes.get_mut(at)?;
        *byte = if *byte == to { to ^ 1 } else { to };
        Some(())
    };
    let edited = |text: String| {
        let mut bytes = text.into_bytes();
        edit(&mut bytes)?;
        String::from_utf8(bytes).ok()
    };
    match part {
        0 => message.method = edited(message.method)?,
        1 => {
            let url = edited(message.url.clone())?;
            if is_same_but_for_case(&url, &message.url) {
                return None;
            }
            message.url = url;
        }
        2 => edit(message.body.as_mut()?)?,
        line => match message.headers.get_mut(line - 3)? {
            (name, _) if name == "Signature" => return None,
            (_, value) => edit(value)?,
        },
    }
    Target::parse(&message.url).is_ok().then_some(message)
}

/// Scheme and host have no case (RFC 3986, section 6.2.2.1): `httP://A` is `http://a`.
fn is_same_but_for_case(one: &str, other: &str) -> bool {
    let authority_ends = |url: &str| {
        let start = url.find("://").map_or(0, |at| at + 3);
        url.get(start..)?.find(['/', '?']).map(|at| start + at).or(Some(url.len()))
    };
    let split = |url: &str| {
        let (start, rest) = url.split_at(authority_ends(url).unwrap_or(0));
        (start.to_ascii_lowercase(), rest.to_owned())
    };
    split(one) == split(other)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_signed_is_accepted_and_nothing_else(
        agent in a_signer(),
        message in a_message(),
        part in any::<Index>(),
        at in any::<Index>(),
        to in prop_oneof![any::<u8>(), b' '..=b'~'],
    ) {
        let signed = message.signed(&agent);
        let key = verifying(&agent.key);
        prop_assert_eq!(signed.judge(&agent.profile, &key), Ok(()));
        let part = part.index(parts(&signed));
        if let Some(other) = changed(&signed, part, |len| at.index(len), to) {
            let result = other.judge(&agent.profile, &key);
            prop_assert!(result.is_err(), "{:?}", other);
        }
    }
}

#[test]
fn every_byte_of_every_covered_part_counts() {
    let agent = signer(KeyType::Ed25519, Profile::onceguard());
    let signed = Message::post().without("Host").with("X-Session-Id", "abc").signed(&agent);
    let key = verifying(&agent.key);
    let mut refused = vec![0; parts(&signed)];
    for (part, refused) in refused.iter_mut().enumerate() {
        for (at, to) in (0..400).flat_map(|at| [b'0', b'a', b'A', b' '].map(|to| (at, to))) {
            if let Some(other) = changed(&signed, part, |_| at, to) {
                let result = other.judge(&agent.profile, &key);
                assert!(result.is_err(), "byte {at} as {to}: {other:?}");
                *refused += 1;
            }
        }
    }
    // All but `Signature`, the last field.
    assert_eq!(refused.pop(), Some(0));
    assert!(refused.iter().all(|&count| count > 0), "{refused:?}");
}

/// Text that looks like structured fields more often than random bytes do.
fn field_like() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(vec![
        "sig",
        "sig1",
        "a",
        "=",
        "=(",
        "(",
        ")",
        "\"",
        "\\",
        "\"@method\"",
        "\"@query-param\"",
        ";",
        ";created=",
        ";nonce=",
        ";key=",
        ";name=",
        ";sf",
        ";bs",
        ";req",
        ",",
        ", ",
        " ",
        ":",
        ":AA==:",
        "1",
        "-1",
        "999999999999999",
        "9999999999999999",
        "1.5",
        "?1",
        "@1",
        "%\"",
        "*",
        "\"onceguard\"",
        ";tag=",
        ";keyid=",
        "\"did:x:y\"",
        "\n ",
        "\r\n\t",
        "\t",
        "é",
    ]);
    prop_oneof![
        vec(token, 0..60).prop_map(|tokens| tokens.concat().into_bytes()),
        vec(any::<u8>(), 0..300),
        (any::<u8>(), 8_000..9_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_bytes_make_the_reader_panic(
        input in field_like(),
        signature in field_like(),
        field in field_like(),
        query in "[!-\"$-~]{0,60}",
    ) {
        let mut lax = Profile::sage();
        lax.coverage.always.clear();
        let mut message = Message::get();
        message.url = format!("https://a.example/?{query}");
        for (name, value) in
            [("Signature-Input", input), ("Signature", signature), ("a", field.clone()), ("content-digest", field)]
        {
            message.headers.push((name.to_owned(), value));
        }
        let key = verifying(&key(KeyType::Ed25519));
        prop_assert!(message.judge(&lax, &key).is_err());
        // And with fields that are well-formed, so that what they cover is read.
        let components = "\"a\" \"a\";sf \"a\";bs \"a\";key=\"a\" \"content-digest\" \
                          \"@query-param\";name=\"a\"";
        let readable = message
            .without("Signature-Input")
            .without("Signature")
            .with_signature(&Input { components, tag: None, ..Input::good() }.text(), &[0; 64]);
        prop_assert!(readable.judge(&lax, &key).is_err());
    }
}

#[test]
fn signatures_of_other_lengths_do_not_verify() {
    for key_type in KeyType::ALL {
        let key = verifying(&key(key_type));
        for algorithm in Algorithm::ALL {
            for length in 0..=130 {
                for byte in [0, 1, 0xff] {
                    assert!(!key.verifies(algorithm, b"message", &vec![byte; length]));
                }
            }
        }
    }
}

#[test]
fn the_time_of_signing_does_not_matter() {
    let agent = signer(KeyType::Ed25519, Profile::onceguard());
    let between = now() + chrono::Duration::microseconds(999_999);
    let fields = Message::get()
        .as_request(|request| agent.sign(request, &crate::messages::nonce(), between))
        .unwrap();
    let message =
        fields.iter().fold(Message::get(), |message, (name, value)| message.with(name, value));
    let result = message.judge_at(&agent.profile, &verifying(&agent.key), between);
    assert_eq!(result, Ok(()));
}
