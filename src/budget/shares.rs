//! An amount of which many accounts hold parts. It is bounded in all and per account, and half of
//! it is kept for the holders of tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;

use super::{Account, Standing};

/// The amount. Clones share it.
#[derive(Clone)]
pub struct Shares {
    inner: Arc<Inner>,
}

struct Inner {
    in_all: u64,
    per_account: u64,
    in_use: IntGauge,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    in_all: u64,
    by_agents: u64,
    /// Only accounts that hold something, so that the map stays small.
    by_account: HashMap<Account, u64>,
}

/// There is not enough room. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Account,
    All,
}

impl Full {
    /// The word for a metric's label.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Account => "share",
            Self::All => "all",
        }
    }
}

impl Shares {
    #[must_use]
    pub fn new(in_all: u64, per_account: u64, in_use: IntGauge) -> Self {
        let held = Mutex::default();
        Self { inner: Arc::new(Inner { in_all, per_account, in_use, held }) }
    }

    /// Takes an amount until the [`Hold`] is dropped.
    ///
    /// # Errors
    /// [`Full`] names the bound that refuses it.
    pub fn take(
        &self,
        amount: u64,
        standing: Standing,
        accounts: &[Account],
    ) -> Result<Hold, Full> {
        let Inner { in_all, per_account, in_use, .. } = &*self.inner;
        let mut held = self.inner.held();
        let of = |account| held.by_account.get(account).copied().unwrap_or_default();
        if accounts.iter().any(|account| of(account) + amount > *per_account) {
            return Err(Full::Account);
        }
        let (reachable, reached) = match standing {
            Standing::Holder => (*in_all, held.in_all),
            Standing::Agent => (*in_all / 2, held.by_agents),
        };
        if reached + amount > reachable || held.in_all + amount > *in_all {
            return Err(Full::All);
        }
        held.in_all += amount;
        if standing == Standing::Agent {
            held.by_agents += amount;
        }
        for account in accounts {
            *held.by_account.entry(*account).or_default() += amount;
        }
        in_use.set(i64::try_from(held.in_all).unwrap_or(i64::MAX));
        let inner = Arc::clone(&self.inner);
        Ok(Hold { inner, amount, standing, accounts: accounts.to_vec() })
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A taken amount, given back when it is dropped.
pub struct Hold {
    inner: Arc<Inner>,
    amount: u64,
    standing: Standing,
    accounts: Vec<Account>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.inner.held();
        held.in_all -= self.amount;
        if self.standing == Standing::Agent {
            held.by_agents -= self.amount;
        }
        for account in &self.accounts {
            if let Some(own) = held.by_account.get_mut(account) {
                *own -= self.amount;
                if *own == 0 {
                    held.by_account.remove(account);
                }
            }
        }
        self.inner.in_use.set(i64::try_from(held.in_all).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Peer;

    fn peer(last: u8) -> Account {
        Account::Peer(Peer::of_address([192, 0, 2, last].into()))
    }

    fn shares() -> (Shares, IntGauge) {
        let gauge = IntGauge::new("in_use", "in use").unwrap();
        (Shares::new(100, 30, gauge.clone()), gauge)
    }

    #[test]
    fn one_account_uses_up_its_own_share_and_no_other() {
        let (shares, gauge) = shares();
        let held = shares.take(30, Standing::Holder, &[peer(1)]).unwrap();
        assert_eq!(shares.take(1, Standing::Holder, &[peer(1)]).err(), Some(Full::Account));
        // Every account must have room.
        let both = shares.take(1, Standing::Holder, &[peer(2), peer(1)]).err();
        assert_eq!(both, Some(Full::Account));
        let other = shares.take(30, Standing::Holder, &[peer(2)]).unwrap();
        assert_eq!(gauge.get(), 60);
        drop((held, other));
        assert_eq!(gauge.get(), 0);
        assert!(shares.inner.held().by_account.is_empty());
        assert!(shares.take(30, Standing::Holder, &[peer(1)]).is_ok());
    }

    #[test]
    fn agents_leave_half_to_the_holders_of_tokens() {
        let (shares, _) = shares();
        let agents: Vec<_> =
            (1..=2).map(|n| shares.take(25, Standing::Agent, &[peer(n)]).unwrap()).collect();
        assert_eq!(shares.take(1, Standing::Agent, &[peer(3)]).err(), Some(Full::All));
        let holders: Vec<_> =
            (4..=5).map(|n| shares.take(25, Standing::Holder, &[peer(n)]).unwrap()).collect();
        assert_eq!(shares.take(1, Standing::Holder, &[peer(6)]).err(), Some(Full::All));
        drop(holders);
        // Agents cannot take the holders' half, even when it is free.
        assert_eq!(shares.take(1, Standing::Agent, &[peer(3)]).err(), Some(Full::All));
        drop(agents);
        assert!(shares.take(25, Standing::Agent, &[peer(3)]).is_ok());
    }
}
