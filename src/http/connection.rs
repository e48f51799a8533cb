//! What a request says about its connection: that a credential came over it.

use std::rc::Rc;

use actix_web::HttpRequest;

use super::exchange::Exchange;
use crate::budget::Place;

/// A good token came: the connection is its holder's from now on.
pub(super) fn admit(request: &HttpRequest) {
    if let Some(place) = request.conn_data::<Rc<Place>>() {
        place.admit();
    }
}

/// The request is refused: what else it sends is thrown away.
pub(super) fn refuse(request: &HttpRequest) {
    if let Some(place) = request.conn_data::<Rc<Place>>() {
        place.end_request(true);
    }
}

/// A signature verified: the connection is no stranger's until the request was answered.
pub(super) fn serve(request: &HttpRequest) {
    if let Some(place) = request.conn_data::<Rc<Place>>() {
        Exchange::of(request).set_serving(place.serve());
    }
}
