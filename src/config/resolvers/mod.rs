//! `[resolvers]`: where DIDs are read from.

mod endpoint;
mod places;
mod registry;
mod universal;
mod web;

use super::reader::Reader;

pub use endpoint::Endpoint;
pub use places::Places;
pub use registry::Registry;
pub use universal::Universal;
pub use web::Web;

/// `[resolvers]`.
#[derive(Debug, Clone)]
pub struct Resolvers {
    pub places: Places,
    pub web: Web,
    /// `None` when it has no endpoints.
    pub registry: Option<Registry>,
    /// `None` when it has no URL.
    pub universal: Option<Universal>,
}

impl Resolvers {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            places: Places::read(reader),
            web: Web::read(reader),
            registry: Registry::read(reader),
            universal: Universal::read(reader),
        }
    }
}
