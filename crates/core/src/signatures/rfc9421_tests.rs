//! The examples of RFC 9421: the component values of section 2, and the signatures of appendix B
//! (those with Ed25519 and P-256 in full; of the others, the signature bases).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::algorithms::{Algorithm, VerifyingKey};
use super::base::signature_base;
use super::components::{Covered, InvalidComponent, NoValue};
use super::parse;
use super::request::{Body, Request, Target};
use super::sign::SigningKey;
use crate::domain::{KeyType, PublicKey};

/// A request as the RFC prints it.
struct Message {
    method: &'static str,
    url: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

impl Message {
    /// The signature base that `input`, a member of `Signature-Input`, asks for.
    fn base(&self, input: &str) -> Result<String, String> {
        let mut headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let input = format!("sig={input}");
        headers.push(("Signature-Input", input.as_bytes()));
        headers.push(("Signature", b"sig=:AA==:"));
        let target = Target::parse(self.url).unwrap();
        let request =
            Request { method: self.method, target, headers: &headers, body: Body::Seen(b"") };
        let signatures = parse::signatures(&request).map_err(|error| error.to_string())?.unwrap();
        let covered =
            Covered::read_all(&signatures[0].covered).map_err(|error| error.to_string())?;
        signature_base(&request, &covered, &signatures[0].verbatim)
            .map_err(|error| error.to_string())
    }

    /// The lines of the components that `input` covers.
    fn lines(&self, input: &str) -> Vec<String> {
        let base = self.base(input).unwrap();
        let mut lines: Vec<_> = base.split('\n').map(str::to_owned).collect();
        assert_eq!(lines.pop(), Some(format!("\"@signature-params\": {input}")));
        lines
    }
}

fn get(url: &'static str, headers: &[(&'static str, &'static str)]) -> Message {
    Message { method: "GET", url, headers: headers.to_vec() }
}

#[test]
fn section_2_1_fields() {
    let message = get(
        "https://www.example.com/",
        &[
            ("Host", "www.example.com"),
            ("Date", "Tue, 20 Apr 2021 02:07:56 GMT"),
            ("X-OWS-Header", "   Leading and trailing whitespace.   "),
            ("X-Obs-Fold-Header", "Obsolete\r\n    line folding."),
            ("Cache-Control", "max-age=60"),
            ("Cache-Control", "    must-revalidate"),
            ("Example-Dict", "  a=1,    b=2;x=1;y=2,   c=(a   b   c)"),
            ("X-Empty-Header", ""),
        ],
    );
    let input = "(\"host\" \"date\" \"x-ows-header\" \"x-obs-fold-header\" \"cache-control\" \
                 \"example-dict\" \"x-empty-header\")";
    assert_eq!(
        message.lines(input),
        [
            "\"host\": www.example.com",
            "\"date\": Tue, 20 Apr 2021 02:07:56 GMT",
            "\"x-ows-header\": Leading and trailing whitespace.",
            "\"x-obs-fold-header\": Obsolete line folding.",
            "\"cache-control\": max-age=60, must-revalidate",
            "\"example-dict\": a=1,    b=2;x=1;y=2,   c=(a   b   c)",
            "\"x-empty-header\": ",
        ]
    );
}

#[test]
fn section_2_1_1_strict_serialization() {
    let message = get(
        "https://www.example.com/",
        &[("Example-Dict", "  a=1,    b=2;x=1;y=2,   c=(a   b   c)")],
    );
    assert_eq!(
        message.lines("(\"example-dict\" \"example-dict\";sf)"),
        [
            "\"example-dict\": a=1,    b=2;x=1;y=2,   c=(a   b   c)",
            "\"example-dict\";sf: a=1, b=2;x=1;y=2, c=(a b c)",
        ]
    );
}

#[test]
fn section_2_1_2_dictionary_members() {
    let message = get(
        "https://www.example.com/",
        &[("Example-Dict", "  a=1, b=2;x=1;y=2, c=(a   b    c), d")],
    );
    let input = "(\"example-dict\";key=\"a\" \"example-dict\";key=\"d\" \
                 \"example-dict\";key=\"b\" \"example-dict\";key=\"c\")";
    assert_eq!(
        message.lines(input),
        [
            "\"example-dict\";key=\"a\": 1",
            "\"example-dict\";key=\"d\": ?1",
            "\"example-dict\";key=\"b\": 2;x=1;y=2",
            "\"example-dict\";key=\"c\": (a b c)",
        ]
    );
}

#[test]
fn section_2_1_3_binary_wrapping() {
    let two = [("Example-Header", "value, with, lots"), ("Example-Header", "of, commas")];
    let one = [("Example-Header", "value, with, lots, of, commas")];
    let (two, one) = (get("https://a.example/", &two), get("https://a.example/", &one));
    let plain = ["\"example-header\": value, with, lots, of, commas"];
    assert_eq!(two.lines("(\"example-header\")"), plain);
    assert_eq!(one.lines("(\"example-header\")"), plain);
    assert_eq!(
        two.lines("(\"example-header\";bs)"),
        ["\"example-header\";bs: :dmFsdWUsIHdpdGgsIGxvdHM=:, :b2YsIGNvbW1hcw==:"]
    );
    assert_eq!(
        one.lines("(\"example-header\";bs)"),
        ["\"example-header\";bs: :dmFsdWUsIHdpdGgsIGxvdHMsIG9mLCBjb21tYXM=:"]
    );
}

#[test]
fn section_2_2_derived_components() {
    let message = Message {
        method: "POST",
        url: "https://www.example.com/path?param=value",
        headers: vec![],
    };
    let input = "(\"@method\" \"@target-uri\" \"@authority\" \"@scheme\" \"@request-target\" \
                 \"@path\" \"@query\")";
    assert_eq!(
        message.lines(input),
        [
            "\"@method\": POST",
            "\"@target-uri\": https://www.example.com/path?param=value",
            "\"@authority\": www.example.com",
            "\"@scheme\": https",
            "\"@request-target\": /path?param=value",
            "\"@path\": /path",
            "\"@query\": ?param=value",
        ]
    );
    for (url, query) in [
        (
            "https://www.example.com/path?param=value&foo=bar&baz=bat%2Dman",
            "\"@query\": ?param=value&foo=bar&baz=bat%2Dman",
        ),
        ("https://www.example.com/path?queryString", "\"@query\": ?queryString"),
        ("https://www.example.com/path", "\"@query\": ?"),
        ("https://www.example.com/path?", "\"@query\": ?"),
    ] {
        assert_eq!(get(url, &[]).lines("(\"@query\")"), [query]);
    }
    for (url, authority) in [
        ("https://WWW.Example.com:443/", "\"@authority\": www.example.com"),
        ("http://www.example.com:80/", "\"@authority\": www.example.com"),
        ("http://www.example.com:443/", "\"@authority\": www.example.com:443"),
    ] {
        assert_eq!(get(url, &[]).lines("(\"@authority\")"), [authority]);
    }
}

#[test]
fn section_2_2_8_query_parameters() {
    let message = get("https://www.example.com/path?param=value&foo=bar&baz=batman&qux=", &[]);
    let input = "(\"@query-param\";name=\"baz\" \"@query-param\";name=\"qux\" \
                 \"@query-param\";name=\"param\")";
    assert_eq!(
        message.lines(input),
        [
            "\"@query-param\";name=\"baz\": batman",
            "\"@query-param\";name=\"qux\": ",
            "\"@query-param\";name=\"param\": value",
        ]
    );
    let encoded = get(
        "https://www.example.com/parameters?var=this%20is%20a%20big%0Amultiline%20value&\
         bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something",
        &[],
    );
    let input = "(\"@query-param\";name=\"var\" \"@query-param\";name=\"bar\" \
                 \"@query-param\";name=\"fa%C3%A7ade%22%3A%20\")";
    assert_eq!(
        encoded.lines(input),
        [
            "\"@query-param\";name=\"var\": this%20is%20a%20big%0Amultiline%20value",
            "\"@query-param\";name=\"bar\": with%20plus%20whitespace",
            "\"@query-param\";name=\"fa%C3%A7ade%22%3A%20\": something",
        ]
    );
}

#[test]
fn ambiguous_and_absent_values_make_no_base() {
    let message = get(
        "https://a.example/?twice=1&twice=2&bad=%FF",
        &[
            ("X", "not \u{1} ascii"),
            ("List", "a, a"),
            ("One", "a"),
            ("Text", "a b"),
            ("Line", "a\nb: c"),
        ],
    );
    for (component, reason) in [
        ("\"@query-param\";name=\"twice\"", NoValue::ParameterTwice),
        ("\"@query-param\";name=\"bad\"", NoValue::ParameterNotUtf8),
        ("\"@query-param\";name=\"none\"", NoValue::NoParameter),
        ("\"none\"", NoValue::NoField),
        ("\"none\";bs", NoValue::NoField),
        ("\"none\";key=\"a\"", NoValue::NoField),
        ("\"x\"", NoValue::NotAscii),
        ("\"line\"", NoValue::NotAscii),
        // A dictionary would drop the second a, a list would not.
        ("\"list\";sf", NoValue::NotStructured),
        ("\"text\";sf", NoValue::NotStructured),
        ("\"text\";key=\"a\"", NoValue::NotStructured),
        ("\"list\";key=\"a\"", NoValue::NotStructured),
        ("\"one\";key=\"b\"", NoValue::NoMember),
    ] {
        let error = message.base(&format!("({component})")).unwrap_err();
        assert_eq!(error, format!("{component} is covered, but {reason}"));
    }
    assert_eq!(message.lines("(\"x\";bs)"), ["\"x\";bs: :bm90IAEgYXNjaWk=:"]);
}

#[test]
fn what_has_no_meaning_in_a_request_is_refused_by_name() {
    use InvalidComponent::{OfRequest, Parameters, Response, Trailer, Twice, Unknown};

    let message = get("https://a.example/?a=1", &[("A", "1")]);
    for (components, refusal) in [
        ("\"@status\"", Response("\"@status\"".into())),
        ("\"@method\";req", OfRequest("\"@method\";req".into())),
        ("\"a\";req", OfRequest("\"a\";req".into())),
        ("\"a\";tr", Trailer("\"a\";tr".into())),
        ("\"@signature-params\"", Unknown("\"@signature-params\"".into())),
        ("\"@future\"", Unknown("\"@future\"".into())),
        ("\"A\"", Unknown("\"A\"".into())),
        ("\"a b\"", Unknown("\"a b\"".into())),
        ("\"\"", Unknown("\"\"".into())),
        ("\"@method\";sf", Parameters("\"@method\";sf".into())),
        ("\"@query-param\"", Parameters("\"@query-param\"".into())),
        ("\"@query-param\";name", Parameters("\"@query-param\";name".into())),
        ("\"@path\";name=\"a\"", Parameters("\"@path\";name=\"a\"".into())),
        ("\"a\";new", Parameters("\"a\";new".into())),
        ("\"a\";bs;sf", Parameters("\"a\";bs;sf".into())),
        ("\"a\";bs;key=\"a\"", Parameters("\"a\";bs;key=\"a\"".into())),
        ("\"a\";name=\"a\"", Parameters("\"a\";name=\"a\"".into())),
        ("\"a\" \"a\"", Twice("\"a\"".into())),
        ("\"@path\" \"@path\"", Twice("\"@path\"".into())),
        ("\"a\";key=\"x\" \"a\";sf;key=\"x\"", Twice("\"a\";sf;key=\"x\"".into())),
        ("\"a\";sf;key=\"x\" \"a\";key=\"x\";sf", Twice("\"a\";key=\"x\";sf".into())),
    ] {
        let refused = message.base(&format!("({components})")).unwrap_err();
        assert_eq!(refused, refusal.to_string(), "{components}");
    }
}

const DIGEST: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BN\
                      NyealdVLvRwEmTHWXvJwew==:";

/// The `test-request` of appendix B.2.
fn test_request() -> Message {
    Message {
        method: "POST",
        url: "https://example.com/foo?param=Value&Pet=dog",
        headers: vec![
            ("Host", "example.com"),
            ("Date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("Content-Type", "application/json"),
            ("Content-Digest", DIGEST),
            ("Content-Length", "18"),
        ],
    }
}

#[test]
fn section_2_5_signature_base() {
    let input = "(\"@method\" \"@authority\" \"@path\" \"content-digest\" \"content-length\" \
                 \"content-type\");created=1618884473;keyid=\"test-key-rsa-pss\"";
    assert_eq!(
        test_request().base(input).unwrap(),
        format!(
            "\"@method\": POST\n\"@authority\": example.com\n\"@path\": /foo\n\
             \"content-digest\": {DIGEST}\n\"content-length\": 18\n\
             \"content-type\": application/json\n\"@signature-params\": {input}"
        )
    );
}

#[test]
fn appendix_b_2_1_minimal() {
    let input = "();created=1618884473;keyid=\"test-key-rsa-pss\";nonce=\"b3k2pp5k7z-50gnwp.yemd\"";
    let base = test_request().base(input).unwrap();
    assert_eq!(base, format!("\"@signature-params\": {input}"));
}

#[test]
fn appendix_b_2_2_selective() {
    let input = "(\"@authority\" \"content-digest\" \"@query-param\";name=\"Pet\");\
                 created=1618884473;keyid=\"test-key-rsa-pss\";tag=\"header-example\"";
    assert_eq!(
        test_request().lines(input),
        [
            "\"@authority\": example.com".to_owned(),
            format!("\"content-digest\": {DIGEST}"),
            "\"@query-param\";name=\"Pet\": dog".to_owned(),
        ]
    );
}

#[test]
fn appendix_b_2_3_full() {
    let input = "(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \
                 \"content-digest\" \"content-length\");created=1618884473;\
                 keyid=\"test-key-rsa-pss\"";
    assert_eq!(
        test_request().lines(input),
        [
            "\"date\": Tue, 20 Apr 2021 02:07:55 GMT".to_owned(),
            "\"@method\": POST".to_owned(),
            "\"@path\": /foo".to_owned(),
            "\"@query\": ?param=Value&Pet=dog".to_owned(),
            "\"@authority\": example.com".to_owned(),
            "\"content-type\": application/json".to_owned(),
            format!("\"content-digest\": {DIGEST}"),
            "\"content-length\": 18".to_owned(),
        ]
    );
}

/// `test-key-ecc-p256`, which the RFC prints as an uncompressed point in PEM.
fn p256_key() -> VerifyingKey {
    let spki = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf\
                w0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==";
    let spki = STANDARD.decode(spki).unwrap();
    let point = &spki[spki.len() - 65..];
    let compressed = [&[2 + (point[64] & 1)], &point[1..33]].concat();
    VerifyingKey::new(&PublicKey::new(KeyType::P256, &compressed).unwrap()).unwrap()
}

fn assert_verifies(key: &VerifyingKey, algorithm: Algorithm, base: &str, signature: &str) {
    let mut signature = STANDARD.decode(signature).unwrap();
    assert!(key.verifies(algorithm, base.as_bytes(), &signature));
    assert!(!key.verifies(algorithm, format!("{base} ").as_bytes(), &signature));
    signature[10] ^= 1;
    assert!(!key.verifies(algorithm, base.as_bytes(), &signature));
}

/// A response, which this module does not sign: the base as printed, and its P-256 signature.
#[test]
fn appendix_b_2_4_response() {
    let input = "(\"@status\" \"content-type\" \"content-digest\" \"content-length\");\
                 created=1618884473;keyid=\"test-key-ecc-p256\"";
    let refused = test_request().base(input).unwrap_err();
    assert_eq!(refused, InvalidComponent::Response("\"@status\"".to_owned()).to_string());
    let base = format!(
        "\"@status\": 200\n\"content-type\": application/json\n\
         \"content-digest\": sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX6\
         9wWdXymyU0rjJuahq4l5aGgfLQ==:\n\"content-length\": 23\n\"@signature-params\": {input}"
    );
    let signature = "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+3\
                     2oiasw==";
    assert_verifies(&p256_key(), Algorithm::EcdsaP256Sha256, &base, signature);
}

#[test]
fn appendix_b_2_5_hmac() {
    let input = "(\"date\" \"@authority\" \"content-type\");created=1618884473;\
                 keyid=\"test-shared-secret\"";
    assert_eq!(
        test_request().lines(input),
        [
            "\"date\": Tue, 20 Apr 2021 02:07:55 GMT",
            "\"@authority\": example.com",
            "\"content-type\": application/json",
        ]
    );
}

/// `test-key-ed25519`, as the RFC's JWK.
fn ed25519_key() -> VerifyingKey {
    let x = URL_SAFE_NO_PAD.decode("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs").unwrap();
    VerifyingKey::new(&PublicKey::new(KeyType::Ed25519, &x).unwrap()).unwrap()
}

#[test]
fn appendix_b_2_6_ed25519() {
    let input = "(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \
                 \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
    let base = test_request().base(input).unwrap();
    assert_eq!(
        base,
        format!(
            "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\
             \"@authority\": example.com\n\"content-type\": application/json\n\
             \"content-length\": 18\n\"@signature-params\": {input}"
        )
    );
    let signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WP\
                     pBKRCw==";
    assert_verifies(&ed25519_key(), Algorithm::Ed25519, &base, signature);

    // Ed25519 is deterministic: our signer makes the RFC's signature.
    let secret = URL_SAFE_NO_PAD.decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU").unwrap();
    let secret = SigningKey::from_bytes(KeyType::Ed25519, &secret.try_into().unwrap()).unwrap();
    let signed = secret.sign(Algorithm::Ed25519, base.as_bytes()).unwrap();
    assert_eq!(STANDARD.encode(signed), signature);
}

#[test]
fn appendix_b_3_behind_a_proxy() {
    const CERTIFICATE: &str = ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:";

    let message = Message {
        method: "POST",
        url: "https://service.internal.example/foo?param=Value&Pet=dog",
        headers: vec![("Client-Cert", CERTIFICATE)],
    };
    let input = "(\"@path\" \"@query\" \"@method\" \"@authority\" \"client-cert\");\
                 created=1618884473;keyid=\"test-key-ecc-p256\"";
    let signature = "xVMHVpawaAC/0SbHrKRs9i8I3eOs5RtTMGCWXm/9nvZzoHsIg6Mce9315T6xoklyy0yzhD9ah4JHRwML\
                     Ogmizw==";
    let base = message.base(input).unwrap();
    assert_verifies(&p256_key(), Algorithm::EcdsaP256Sha256, &base, signature);
}

/// What a proxy may do to a request without breaking the signature, and what it may not.
#[test]
fn appendix_b_4_transformations() {
    const URL: &str = "https://example.org/demo?name1=Value1&Name2=value2";
    let (host, date) = (("Host", "example.org"), ("Date", "Fri, 15 Jul 2022 14:24:55 GMT"));
    let (json, any) = (("Accept", "application/json"), ("Accept", "*/*"));
    let input = "(\"@method\" \"@path\" \"@authority\" \"accept\");created=1618884473;\
                 keyid=\"test-key-ed25519\"";
    let signature = "ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0p\
                     mj3NDA==";
    for message in [
        get(URL, &[host, date, json, any]),
        get(
            "https://example.org/demo?name1=Value1&Name2=value2&param=added",
            &[host, date, json, any, ("Accept-Language", "en-US,en;q=0.5")],
        ),
        get(
            URL,
            &[
                host,
                ("Referer", "https://developer.example.org/demo"),
                ("Accept", "application/json, */*"),
            ],
        ),
        get(URL, &[json, any, date, host]),
    ] {
        let base = message.base(input).unwrap();
        assert_verifies(&ed25519_key(), Algorithm::Ed25519, &base, signature);
    }
    let signature = STANDARD.decode(signature).unwrap();
    for message in [
        Message {
            method: "POST",
            url: "https://example.com/demo?name1=Value1&Name2=value2",
            headers: vec![("Host", "example.com"), date, json, any],
        },
        get(URL, &[host, date, any, json]),
    ] {
        let base = message.base(input).unwrap();
        assert!(!ed25519_key().verifies(Algorithm::Ed25519, base.as_bytes(), &signature));
    }
}
