//! Whether a structured field (RFC 8941) says each thing once. A parser keeps the last of the
//! members, or parameters, of one name and forgets the others; a reader of the raw field may
//! take the first. Such a field has two meanings, so none of it may count as signed.

use std::collections::HashSet;

use sfv::visitor::{
    DictionaryVisitor, EntryVisitor, InnerListVisitor, ItemVisitor, ListVisitor, ParameterVisitor,
};
use sfv::{BareItemFromInput, KeyRef};

#[derive(Debug, thiserror::Error)]
#[error("a member or a parameter is given twice")]
pub(super) struct GivenTwice;

/// Parses a field for nothing but this: it refuses the second member of a dictionary, and the
/// second parameter of an item or a list, that has the same name.
#[derive(Default)]
pub(super) struct EachOnce<'de> {
    /// The names so far, of one dictionary or of one set of parameters.
    seen: HashSet<&'de str>,
}

impl<'de> EachOnce<'de> {
    fn see(&mut self, key: &'de KeyRef) -> Result<(), GivenTwice> {
        if self.seen.insert(key.as_str()) { Ok(()) } else { Err(GivenTwice) }
    }
}

impl<'de> DictionaryVisitor<'de> for EachOnce<'de> {
    type Out = ();
    type Error = GivenTwice;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, GivenTwice> {
        self.see(key)?;
        Ok(Self::default())
    }

    fn finish(self) -> Result<(), GivenTwice> {
        Ok(())
    }
}

impl<'de> ListVisitor<'de> for EachOnce<'de> {
    type Out = ();
    type Error = GivenTwice;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, GivenTwice> {
        Ok(Self::default())
    }

    fn finish(self) -> Result<(), GivenTwice> {
        Ok(())
    }
}

impl<'de> EntryVisitor<'de> for EachOnce<'de> {
    type Error = GivenTwice;

    fn item(self) -> Result<impl ItemVisitor<'de>, GivenTwice> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, GivenTwice> {
        Ok(self)
    }
}

impl<'de> InnerListVisitor<'de> for EachOnce<'de> {
    type Error = GivenTwice;

    fn item(&mut self) -> Result<impl ItemVisitor<'de>, GivenTwice> {
        Ok(Self::default())
    }

    fn finish(self) -> Result<impl ParameterVisitor<'de>, GivenTwice> {
        Ok(self)
    }
}

impl<'de> ItemVisitor<'de> for EachOnce<'de> {
    type Out = ();
    type Error = GivenTwice;

    fn bare_item(
        self,
        _: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, GivenTwice> {
        Ok(self)
    }
}

impl<'de> ParameterVisitor<'de> for EachOnce<'de> {
    type Out = ();
    type Error = GivenTwice;

    fn parameter(&mut self, key: &'de KeyRef, _: BareItemFromInput<'de>) -> Result<(), GivenTwice> {
        self.see(key)
    }

    fn finish(self) -> Result<(), GivenTwice> {
        Ok(())
    }
}
