//! The requests that a piece of work is done for, so that each line that the work logs names
//! them. Work that goes on in another task takes its origin along: [`Origin::current`] before,
//! [`Origin::run`] there. A request pays for no more than its id.

use std::sync::Arc;

use tokio::task::futures::TaskLocalFuture;

/// Of requests that are served together, the ids of so many are logged.
const NAMED: usize = 8;

tokio::task_local! {
    static ORIGIN: Origin;
}

/// What a caller finds in `X-Request-Id`. Clones share the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Takes an id that neither a log nor a header can misread: 1 to 128 letters, digits, dots,
    /// underscores and hyphens.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_sane = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        ((1..=128).contains(&text.len()) && text.bytes().all(is_sane)).then(|| Self(text.into()))
    }

    /// A new UUIDv7.
    #[must_use]
    pub fn generate() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        Self(Arc::from(&*uuid::Uuid::now_v7().hyphenated().encode_lower(&mut buffer)))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// For which requests work is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origin {
    /// For none: a job, a start, a command.
    #[default]
    Service,
    Request(RequestId),
    /// For several together, such as a batch of claims.
    Requests {
        count: usize,
        /// Some of them.
        named: Arc<[RequestId]>,
    },
}

impl Origin {
    /// The origin of the work that asks.
    #[must_use]
    pub fn current() -> Self {
        ORIGIN.try_with(Self::clone).unwrap_or_default()
    }

    /// The id of the request, if it is one.
    #[must_use]
    pub fn request_id(&self) -> Option<String> {
        match self {
            Self::Request(id) => Some(id.as_str().to_owned()),
            Self::Service | Self::Requests { .. } => None,
        }
    }

    /// The origin of work that is done for all of these together.
    pub fn together<'a>(origins: impl ExactSizeIterator<Item = &'a Self>) -> Self {
        let count = origins.len();
        let ids = origins.filter_map(|origin| match origin {
            Self::Request(id) => Some(id.clone()),
            Self::Service | Self::Requests { .. } => None,
        });
        let mut named: Vec<_> = ids.take(NAMED).collect();
        match (count, named.len()) {
            (_, 0) => Self::Service,
            (1, _) => named.pop().map_or(Self::Service, Self::Request),
            _ => Self::Requests { count, named: named.into() },
        }
    }

    /// Does work of this origin.
    pub fn run<F: Future>(self, work: F) -> TaskLocalFuture<Self, F> {
        ORIGIN.scope(self, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str) -> Origin {
        Origin::Request(RequestId::parse(id).unwrap())
    }

    #[test]
    fn an_id_is_one_that_a_log_cannot_misread() {
        let long = "x".repeat(128);
        for sane in ["a.B_9-z", "x", &long] {
            assert_eq!(RequestId::parse(sane).unwrap().as_str(), sane);
        }
        for other in ["", "a b", "a/b", "a\"b", "ä", &format!("{long}x")] {
            assert_eq!(RequestId::parse(other), None, "{other:?}");
        }
    }

    #[tokio::test]
    async fn work_knows_for_which_request_it_is_done() {
        assert_eq!(Origin::current(), Origin::Service);
        let found = request("r-1").run(async {
            let here = Origin::current();
            let elsewhere = tokio::spawn(here.clone().run(async { Origin::current() }));
            (here, elsewhere.await.unwrap())
        });
        assert_eq!(found.await, (request("r-1"), request("r-1")));
    }

    #[test]
    fn work_for_many_names_a_few() {
        let many: Vec<_> = (0..100).map(|number| request(&format!("r-{number}"))).collect();
        assert_eq!(Origin::together(many[..1].iter()), many[0]);
        assert_eq!(Origin::together([Origin::Service, Origin::Service].iter()), Origin::Service);
        let Origin::Requests { count, named } = Origin::together(many.iter()) else {
            panic!("they are many");
        };
        assert_eq!((count, named.len(), named[7].as_str()), (100, 8, "r-7"));
    }
}
