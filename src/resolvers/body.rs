//! The bodies of answers. None is trusted to be small.

use reqwest::Response;

/// Why a body could not be read.
#[derive(Debug)]
pub(super) enum BadBody {
    TooLarge,
    BrokenOff(reqwest::Error),
}

/// The whole body of a response, if it has at most `limit` bytes. No more are read.
///
/// # Errors
/// [`BadBody`].
pub(super) async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, BadBody> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BadBody::BrokenOff)? {
        if body.len() + chunk.len() > limit {
            return Err(BadBody::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
