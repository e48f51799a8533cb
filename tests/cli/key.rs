//! `onceguard key`.

use std::path::Path;

use onceguard::signatures::SigningKey;
use rstest::rstest;

use crate::support::{Database::Sqlite, Home};
use crate::{assert_failed, json};

/// Makes a key, and says its DID.
pub(crate) async fn new_key(home: &Home, key_type: &str, file: &Path) -> String {
    let file = file.to_str().unwrap();
    let made = home.run(&["key", "new", "--type", key_type, "--out", file]).await;
    made.success().trim().to_owned()
}

fn folder_of(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.folder()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[rstest]
#[tokio::test]
async fn a_key_is_shown_by_its_public_half_only(
    #[values(("ed25519", "Ed25519", "did:key:z6Mk"), ("secp256k1", "Secp256k1", "did:key:zQ3s"),
             ("p256", "P256", "did:key:zDn"))]
    (key_type, name, prefix): (&str, &str, &str),
) {
    let home = Home::on(Sqlite).await;
    let file = home.folder().join("agent.key");
    let path = file.to_str().unwrap();
    let made = home.run(&["key", "new", "--type", key_type, "--out", path]).await;
    let pem = std::fs::read_to_string(&file).unwrap();
    let secret: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let assert_no_secret = |text: &str| {
        assert!(!secret.iter().any(|line| text.contains(line)), "{text}");
    };
    assert_no_secret(&made.stderr);
    let did = made.success().trim().to_owned();
    assert!(did.starts_with(prefix), "{did}");

    assert_eq!(home.run(&["key", "did", path]).await.success().trim(), did);
    let fragment = did.strip_prefix("did:key:").unwrap();
    let shown = json(home.run(&["key", "show", path, "--json"]).await);
    let public_key = shown["public_key"].as_str().unwrap();
    assert_eq!(shown["key_type"], name);
    assert_eq!(shown["did"], did);
    assert_eq!(shown["keyid"], format!("{did}#{fragment}"));
    let text = home.run(&["key", "show", path]).await.success();
    for word in [name, &did, public_key] {
        assert!(text.contains(word), "{text}");
    }
    assert_no_secret(&text);
    assert_no_secret(&shown.to_string());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_a_key() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::on(Sqlite).await;
    let file = home.folder().join("agent.key");
    new_key(&home, "ed25519", &file).await;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_key_is_made_where_nothing_is() {
    let home = Home::on(Sqlite).await;
    let file = home.folder().join("agent.key");
    let first = new_key(&home, "ed25519", &file).await;
    let before = std::fs::read(&file).unwrap();
    let again = ["key", "new", "--out", file.to_str().unwrap()];
    assert_failed(&home.run(&again).await, 4, &["agent.key", "never overwritten", "--out"]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(folder_of(&home), ["agent.key"]);

    let other = new_key(&home, "ed25519", &home.folder().join("other.key")).await;
    assert_ne!(first, other);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_is_not_followed() {
    let home = Home::on(Sqlite).await;
    let link = home.folder().join("agent.key");
    std::os::unix::fs::symlink(home.folder().join("elsewhere"), &link).unwrap();
    let made = home.run(&["key", "new", "--out", link.to_str().unwrap()]).await;
    assert_failed(&made, 4, &["exists already"]);
    assert_eq!(folder_of(&home), ["agent.key"]);
}

/// Made by OpenSSL 3.0: `openssl genpkey`, and `openssl pkey -pubout` of the same key.
const OPENSSL: [(&str, &str, &str); 3] = [
    (
        "did:key:z6MkfmkuYBsv1dFDpRk95ckgvD51K4iTHbvP4Q2pwKud2Yo4",
        "MC4CAQAwBQYDK2VwBCIEIOpZDitrI5RM7uA/WHUzTWSz5LlTpUSeoyYAoqYpOQwP",
        "MCowBQYDK2VwAyEAE5jGYFH8IkV5rsiUrOo0dF2e9SGecTboiOK2EZ+huzM=",
    ),
    (
        "did:key:zQ3shQssnuBvxognZzfTbCvzgcYXPTXtE9b1MVrks3ZSfvpTG",
        "MIGEAgEAMBAGByqGSM49AgEGBSuBBAAKBG0wawIBAQQgQu0ewU+xwCnPAWmVzOR9aVS7OqQ6Km2XEoXyaXiS+wGhRANCAAQzg2+xH6Jz3zrgID+j0jO3TPgCCJXKJkMBACTv/be311RPI6H9DwfjvOwVweMWr2COyYjPisteMBDkbOkkn9jq",
        "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEM4NvsR+ic9864CA/o9Izt0z4AgiVyiZDAQAk7/23t9dUTyOh/Q8H47zsFcHjFq9gjsmIz4rLXjAQ5GzpJJ/Y6g==",
    ),
    (
        "did:key:zDnaeXhfgtFXcpw4iRJHuxShyYYpNBYZXE3a7hXb8npgzmtZA",
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglFyWtdJ0laeoqgR9NoVTxBISRWxsLFicEyQP+ZBUxtihRANCAARsB3mZZphYWXUH8ybnLG/oGx+mkUnOLiiVuTTBbsFphWiiUqnP6UeCgvMKg5tIsJRLV/J8jeG4/TQRbpYbTa2M",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbAd5mWaYWFl1B/Mm5yxv6BsfppFJzi4olbk0wW7BaYVoolKpz+lHgoLzCoObSLCUS1fyfI3huP00EW6WG02tjA==",
    ),
];

/// A PEM file, whose lines have 64 characters.
fn pem(label: &str, base64: &str) -> String {
    let mut text = format!("-----BEGIN {label} KEY-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap());
        text.push('\n');
    }
    text + &format!("-----END {label} KEY-----\n")
}

#[tokio::test]
async fn openssls_keys_are_read() {
    let home = Home::on(Sqlite).await;
    let file = home.folder().join("key.pem");
    for (did, private, public) in OPENSSL {
        for text in [pem("PRIVATE", private), pem("PUBLIC", public)] {
            std::fs::write(&file, text).unwrap();
            let printed = home.run(&["key", "did", file.to_str().unwrap()]).await.success();
            assert_eq!(printed.trim(), did);
        }
    }
}

#[test]
fn a_key_keeps_its_secret_as_pem() {
    for (_, private, public) in OPENSSL {
        let key = SigningKey::from_pem(&pem("PRIVATE", private)).unwrap();
        let again = SigningKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.expose_bytes(), key.expose_bytes());
        let refused = SigningKey::from_pem(&pem("PUBLIC", public)).unwrap_err();
        assert!(refused.to_string().contains("private key is needed"), "{refused}");
    }
}

#[tokio::test]
async fn what_is_no_usable_key_is_refused_with_advice() {
    let home = Home::on(Sqlite).await;
    let file = home.folder().join("key.pem");
    let (_, private, _) = OPENSSL[0];
    // The identity point, which has order 1.
    let weak = "MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (text, word) in [
        (pem("EC PRIVATE", private), "openssl pkcs8"),
        (pem("ENCRYPTED PRIVATE", private), "unencrypted"),
        (pem("PRIVATE", &private[..40]), "damaged"),
        (pem("PRIVATE", &private.replace('B', "C")), "damaged"),
        (pem("PUBLIC", weak), "small order"),
        ("secret".to_owned(), "PKCS#8"),
        (String::new(), "PKCS#8"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let refused = home.run(&["key", "show", file.to_str().unwrap()]).await;
        assert_failed(&refused, 1, &["key.pem: ", word]);
        assert!(!refused.stderr.contains(&private[..20]), "{refused:?}");
    }
    let missing = home.folder().join("missing.pem");
    let refused = home.run(&["key", "did", missing.to_str().unwrap()]).await;
    assert_failed(&refused, 1, &["cannot read", "missing.pem"]);
    assert_failed(
        &home.run(&["key", "new", "--type", "rsa"]).await,
        2,
        &["ed25519, secp256k1 or p256"],
    );
}
