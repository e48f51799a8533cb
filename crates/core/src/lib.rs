//! What onceguard decides by, without the service around it: the verifier of signed HTTP requests,
//! and the rules about nonces, DIDs, keys, sessions and claims.
//!
//! - [`signatures`] checks, verifies and makes signed requests: HTTP Message Signatures (RFC 9421)
//!   with Content-Digest (RFC 9530). A [`Profile`](signatures::Profile) says, as data, what a
//!   signature has to cover and to state.
//! - [`domain`] has the types, which are well-formed once they exist, and the rules.
//!
//! All of it is functions of their arguments. The crate does no I/O, reads no clock and draws no
//! random numbers; it has no async runtime and no HTTP server. So the caller brings the request,
//! the time and the key, and the caller remembers nonces.
//!
//! # Verify a request
//!
//! An agent whose DID is its key signed this order. The request is accepted if its signature
//! verifies *and* its nonce is new to the signer; the second half needs a store.
//!
//! ```
//! use onceguard_core::domain::{Did, Nonce, PublicKey, Timestamp};
//! use onceguard_core::signatures::{Body, Profile, Request, Target, VerifyingKey, check};
//!
//! /// The signer, its nonce, and the last moment at which that nonce must be remembered.
//! fn verify(
//!     request: &Request<'_>,
//!     now: Timestamp,
//! ) -> Result<(Did, Nonce, Timestamp), Box<dyn std::error::Error>> {
//!     let profile = Profile::onceguard();
//!     // What needs no key: the signature is complete, fresh, and over enough of the request.
//!     let checked = check(request, &profile, now)?;
//!     let signer = checked.key_id().did();
//!     // A did:key says its key itself. Other methods have to be resolved here.
//!     if signer.method() != "key" {
//!         return Err("only did:key is resolved".into());
//!     }
//!     let key = PublicKey::from_multikey(signer.method_specific_id())?;
//!     // The signature is that key's, and the digest is that of the body.
//!     checked.with_key(&VerifyingKey::new(&key)?)?.verify()?;
//!     Ok((signer.clone(), checked.nonce().clone(), checked.keep_nonce_until(&[])))
//! }
//!
//! let headers: [(&str, &[u8]); 4] = [
//!     ("content-type", b"application/json"),
//!     ("content-digest", b"sha-256=:CW7FA5F96vojXfSVusY0BRqx0pp62qlaJD5JZaFxBKc=:"),
//!     (
//!         "signature-input",
//!         b"sig1=(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\")\
//!           ;created=1795176000;expires=1795176300;nonce=\"n-0S6_WzA2Mj5jGq\";alg=\"ed25519\"\
//!           ;keyid=\"did:key:z6MkvDqGT54cXesYGvABpF1UapVNwjCqRcafi4Px6Thv5T3Z\"\
//!           ;tag=\"onceguard\"",
//!     ),
//!     (
//!         "signature",
//!         b"sig1=:xnqaxIcJpJcs1/TVN+kMPRmL7WEqYc9FVsYCUXfseRm6z5dBXWQksHycWc9H8OPcsN0A4yWZ1Lsz\
//!           fjtkh6+vDg==:",
//!     ),
//! ];
//! let order = Request {
//!     method: "POST",
//!     target: Target::parse("https://api.example/orders")?,
//!     headers: &headers,
//!     body: Body::Seen(br#"{"item":"lamp"}"#),
//! };
//! let at = |seconds| Timestamp::from_timestamp(seconds, 0).ok_or("no such time");
//! let now = at(1_795_176_010)?;
//!
//! let (signer, nonce, keep_until) = verify(&order, now)?;
//! assert_eq!(signer.as_str(), "did:key:z6MkvDqGT54cXesYGvABpF1UapVNwjCqRcafi4Px6Thv5T3Z");
//! assert_eq!(nonce.as_str(), "n-0S6_WzA2Mj5jGq");
//!
//! // After that, the signature is too old.
//! assert_eq!(keep_until, at(1_795_176_360)?);
//! assert!(verify(&order, at(1_795_176_361)?).is_err());
//! // Another body, or another target, is not what was signed.
//! assert!(verify(&Request { body: Body::Seen(br#"{"item":"car"}"#), ..order }, now).is_err());
//! let target = Target::parse("https://api.example/refunds")?;
//! assert!(verify(&Request { target, ..order }, now).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`signatures`] lists all thirteen checks in their order, also those that the caller makes.

pub mod domain;
pub mod signatures;
