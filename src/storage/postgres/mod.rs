//! The PostgreSQL store.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::*;

fn not_built() -> StoreError {
    StoreError::Unavailable("not built".into())
}

#[derive(Clone)]
pub struct PostgresStore {}

impl PostgresStore {
    pub async fn open(
        options: &PostgresOptions,
        config: &Database,
        limits: ClaimLimits,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let _ = (options, config, limits, metrics);
        Err(not_built())
    }

    pub async fn close(&self) {}

    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        PoolStatus::default()
    }

    pub async fn now(&self) -> Result<Timestamp> {
        Err(not_built())
    }

    pub async fn migrations(&self) -> Result<Vec<MigrationStatus>> {
        Err(not_built())
    }

    pub async fn migrate_up(&self) -> Result<Vec<String>> {
        Err(not_built())
    }

    pub async fn migrate_down(&self, count: Option<u32>) -> Result<Vec<String>> {
        let _ = count;
        Err(not_built())
    }

    pub async fn counts(&self) -> Result<Counts> {
        Err(not_built())
    }

    pub async fn statistics(&self, top: u32) -> Result<Statistics> {
        let _ = top;
        Err(not_built())
    }

    pub async fn holds_data(&self) -> Result<bool> {
        Err(not_built())
    }

    pub async fn audit(&self, event: AuditEvent) -> Result<()> {
        let _ = event;
        Err(not_built())
    }

    pub async fn audit_events(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        let _ = limit;
        Err(not_built())
    }

    pub async fn claim(&self, asks: &[Ask<'_>]) -> Vec<Result<Facts>> {
        asks.iter().map(|_| Err(not_built())).collect()
    }

    pub async fn session_nonce(
        &self,
        session: SessionId,
        nonce: &crate::domain::Nonce,
    ) -> Result<Option<UsedNonce>> {
        let _ = session;
        let _ = nonce;
        Err(not_built())
    }

    pub async fn open_session(&self, new: NewSession) -> Result<Opened> {
        let _ = new;
        Err(not_built())
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        let _ = id;
        Err(not_built())
    }

    pub async fn session_key(&self, id: SessionId) -> Result<Option<(Session, Option<SealedKey>)>> {
        let _ = id;
        Err(not_built())
    }

    pub async fn list_sessions(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
    ) -> Result<Page<Session>> {
        let _ = filter;
        let _ = page;
        Err(not_built())
    }

    pub async fn update_session(&self, id: SessionId, patch: SessionPatch) -> Result<Changed> {
        let _ = id;
        let _ = patch;
        Err(not_built())
    }

    pub async fn touch_session(&self, id: SessionId) -> Result<Changed> {
        let _ = id;
        Err(not_built())
    }

    pub async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        audit: Option<AuditEvent>,
    ) -> Result<Changed> {
        let _ = id;
        let _ = reason;
        let _ = audit;
        Err(not_built())
    }

    pub async fn end_sessions(
        &self,
        parties: &Parties,
        reason: EndReason,
        audit: Option<AuditEvent>,
        limit: u32,
    ) -> Result<u64> {
        let _ = parties;
        let _ = reason;
        let _ = audit;
        let _ = limit;
        Err(not_built())
    }

    pub async fn end_sessions_of_revoked(&self, did: Option<&Did>, limit: u32) -> Result<u64> {
        let _ = did;
        let _ = limit;
        Err(not_built())
    }

    pub async fn did(&self, did: &Did) -> Result<Option<DidRecord>> {
        let _ = did;
        Err(not_built())
    }

    pub async fn put_did(&self, new: NewDid) -> Result<DidStored> {
        let _ = new;
        Err(not_built())
    }

    pub async fn forget_did(&self, did: &Did) -> Result<DidForgotten> {
        let _ = did;
        Err(not_built())
    }

    pub async fn revoke_did(&self, did: &Did, audit: AuditEvent) -> Result<DidRevoked> {
        let _ = did;
        let _ = audit;
        Err(not_built())
    }

    pub async fn list_dids(
        &self,
        filter: &DidFilter,
        page: &PageRequest,
    ) -> Result<Page<DidRecord>> {
        let _ = filter;
        let _ = page;
        Err(not_built())
    }

    pub async fn create_token(&self, new: NewToken, audit: AuditEvent) -> Result<ApiToken> {
        let _ = new;
        let _ = audit;
        Err(not_built())
    }

    pub async fn token(&self, hash: &TokenHash) -> Result<Option<ApiToken>> {
        let _ = hash;
        Err(not_built())
    }

    pub async fn list_tokens(&self) -> Result<Vec<ApiToken>> {
        Err(not_built())
    }

    pub async fn revoke_token(&self, id: Uuid, audit: AuditEvent) -> Result<Option<ApiToken>> {
        let _ = id;
        let _ = audit;
        Err(not_built())
    }

    pub async fn token_used(&self, id: Uuid) -> Result<()> {
        let _ = id;
        Err(not_built())
    }

    pub async fn sealing_keys(&self) -> Result<Vec<KnownSealingKey>> {
        Err(not_built())
    }

    pub async fn add_sealing_key(&self, key_id: &str, check_value: &[u8]) -> Result<()> {
        let _ = key_id;
        let _ = check_value;
        Err(not_built())
    }

    pub async fn retire_sealing_key(&self, key_id: &str) -> Result<bool> {
        let _ = key_id;
        Err(not_built())
    }

    pub async fn sessions_to_reseal(
        &self,
        key_id: &str,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SealedSession>> {
        let _ = key_id;
        let _ = after;
        let _ = limit;
        Err(not_built())
    }

    pub async fn reseal(&self, id: SessionId, old: &SealedKey, new: &SealedKey) -> Result<bool> {
        let _ = id;
        let _ = old;
        let _ = new;
        Err(not_built())
    }

    pub async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        let _ = name;
        let _ = holder;
        let _ = ttl;
        Err(not_built())
    }

    pub async fn release_lease(&self, name: &str, holder: &str, finished: bool) -> Result<()> {
        let _ = name;
        let _ = holder;
        let _ = finished;
        Err(not_built())
    }

    pub async fn lease(&self, name: &str) -> Result<Option<Lease>> {
        let _ = name;
        Err(not_built())
    }

    pub async fn purge(&self, step: PurgeStep, limit: u32) -> Result<Purged> {
        let _ = step;
        let _ = limit;
        Err(not_built())
    }

    pub async fn purge_preview(&self, steps: &[PurgeStep]) -> Result<Purged> {
        let _ = steps;
        Err(not_built())
    }
}
