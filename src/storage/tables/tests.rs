use super::*;

#[test]
fn a_row_has_the_columns_of_its_table_and_their_kinds() {
    let signers = Table::named("signers").unwrap();
    let check = |line: &str| signers.check(line, false);
    assert_eq!(check(r#"{"signer":"00ff","did":"did:a:b","live":1}"#), Ok(()));
    assert_eq!(check(r#"{"signer":null,"did":null,"live":null}"#), Ok(()));
    for (line, why) in [
        ("nonsense", "no object"),
        ("[]", "no object"),
        (r#"{"signer":"00","did":"did:a:b"}"#, "no live"),
        (r#"{"signer":"0","did":"did:a:b","live":1}"#, "its signer"),
        (r#"{"signer":"0G","did":"did:a:b","live":1}"#, "its signer"),
        (r#"{"signer":"00","did":7,"live":1}"#, "its did"),
        (r#"{"signer":"00","did":"did:a:b","live":1.5}"#, "its live"),
        (r#"{"signer":"00","did":"did:a:b","live":1,"x":1}"#, "no column \"x\""),
    ] {
        assert!(check(line).unwrap_err().contains(why), "{line}");
    }
    assert_eq!(signers.check(r#"{"signer":"00"}"#, true), Ok(()));
    assert!(Table::named("colours").is_none());
    for (kind, fits, not) in [
        (Kind::Id, r#""00112233445566778899aabbccddeeff""#, r#""""#),
        (Kind::Ids, r#""""#, r#""00""#),
        (Kind::Time, "5", r#""2026""#),
        (Kind::Bool, "true", "1"),
        (Kind::Words, r#"["a"]"#, r#"["a",1]"#),
        (Kind::Address, r#""::1""#, r#""host""#),
    ] {
        let of = |text: &str| kind.fits(&serde_json::from_str(text).unwrap());
        assert!(of(fits) && !of(not), "{kind:?}");
    }
}
